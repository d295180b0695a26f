"""HunyuanVideo's transformer as diffusers has it: config and parameter names.

Parameters carry the names of diffusers' `HunyuanVideoTransformer3DModel`, so only the config is
translated; structure: diffusers 0.42.1.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from video_models.transformer.joint_config import JointTransformerConfig

HUNYUAN = "HunyuanVideoTransformer3DModel"

DEFAULTS: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "num_layers": 20,
    "num_single_layers": 40,
    "num_refiner_layers": 2,
    "mlp_ratio": 4.0,
    "patch_size": 2,
    "patch_size_t": 1,
    "qk_norm": "rms_norm",
    "guidance_embeds": True,
    "text_embed_dim": 4096,
    "pooled_projection_dim": 768,
    "rope_theta": 256.0,
    "rope_axes_dim": [16, 56, 56],
    "image_condition_type": None,
}
"""What a published config leaves out."""

UNTOLD = {"zero_init_output", "max_positions"}
"""Fields that diffusers has no word for, and that change nothing of what it computes."""


def from_tree(tree: Mapping[str, Any]) -> JointTransformerConfig:
    """Return the config of a published `config.json`.

    Raises:
        ValueError: a setting is not supported.
    """
    full = {**DEFAULTS, **tree}
    if full["qk_norm"] != "rms_norm":
        raise ValueError(f"qk_norm is {full['qk_norm']!r}; only 'rms_norm' is supported")
    if full["image_condition_type"] not in (None, "latent_concat"):
        raise ValueError(
            f"image_condition_type is {full['image_condition_type']!r}; "
            "null and 'latent_concat' are supported"
        )
    dim = full["num_attention_heads"] * full["attention_head_dim"]
    out_channels = full["out_channels"] or full["in_channels"]
    return JointTransformerConfig(
        latent_channels=out_channels,
        condition_channels=full["in_channels"] - out_channels,
        text_dim=full["text_embed_dim"],
        pooled_dim=full["pooled_projection_dim"],
        num_heads=full["num_attention_heads"],
        head_dim=full["attention_head_dim"],
        ffn_dim=int(dim * full["mlp_ratio"]),
        num_layers=full["num_layers"],
        num_single_layers=full["num_single_layers"],
        num_refiner_layers=full["num_refiner_layers"],
        guidance_embedding=full["guidance_embeds"],
        patch_size=(full["patch_size_t"], full["patch_size"], full["patch_size"]),
        rope_axes=tuple(full["rope_axes_dim"]),
        rope_theta=full["rope_theta"],
    )


def to_tree(config: JointTransformerConfig) -> dict[str, Any]:
    """Return what diffusers' `config.json` says of a model that it has."""
    return {
        "_class_name": HUNYUAN,
        "in_channels": config.input_channels,
        "out_channels": config.latent_channels,
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.head_dim,
        "num_layers": config.num_layers,
        "num_single_layers": config.num_single_layers,
        "num_refiner_layers": config.num_refiner_layers,
        "mlp_ratio": config.ffn_dim / config.dim,
        "patch_size": config.patch_size[2],
        "patch_size_t": config.patch_size[0],
        "qk_norm": "rms_norm",
        "guidance_embeds": config.guidance_embedding,
        "text_embed_dim": config.text_dim,
        "pooled_projection_dim": config.pooled_dim,
        "rope_theta": config.rope_theta,
        "rope_axes_dim": list(config.rope_axes or ()),
        "image_condition_type": "latent_concat" if config.condition_channels else None,
    }


def unlike(config: JointTransformerConfig) -> list[str]:
    """Name what diffusers cannot express of a config."""
    missing = [
        f"{name}={value!r}"
        for name, value in (
            ("rope_axes", config.rope_axes),
            ("pooled_dim", config.pooled_dim),
            ("num_refiner_layers", config.num_refiner_layers),
        )
        if not value
    ]
    if missing:
        return missing
    told = dataclasses.asdict(from_tree(to_tree(config)))
    return [
        f"{name}={value!r}"
        for name, value in dataclasses.asdict(config).items()
        if name not in UNTOLD and value != told[name]
    ]
