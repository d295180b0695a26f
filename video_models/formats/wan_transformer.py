"""Wan's transformers as diffusers has them: configs and parameter names.

Parameters carry the names of diffusers' `WanTransformer3DModel`, so only the config is translated:
text to video and image to video of Wan 2.1 and 2.2; structure: diffusers 0.42.1.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from video_models.transformer.config import TransformerConfig

WAN = "WanTransformer3DModel"

DEFAULTS: dict[str, Any] = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "cross_attn_norm": True,
    "eps": 1e-6,
    "image_dim": None,
    "added_kv_proj_dim": None,
    "rope_max_seq_len": 1024,
    "pos_embed_seq_len": None,
}
"""What a published config leaves out: the values of Wan 2.1 14B."""

UNTOLD = {"zero_init_output", "trained_grid"}
"""Fields that no trained model depends on, or only by another field."""


def from_tree(tree: Mapping[str, Any]) -> TransformerConfig:
    """Return the config of a published `config.json`.

    Raises:
        ValueError: its settings contradict each other.
    """
    full = {**DEFAULTS, **tree}
    dim = full["num_attention_heads"] * full["attention_head_dim"]
    out_channels = full["out_channels"] or full["in_channels"]
    if full["added_kv_proj_dim"] != (None if full["image_dim"] is None else dim):
        raise ValueError(
            f"image_dim is {full['image_dim']!r} and added_kv_proj_dim "
            f"{full['added_kv_proj_dim']!r}; they must be both null, or the latter {dim}"
        )
    if full["in_channels"] < out_channels:
        raise ValueError(
            f"in_channels is {full['in_channels']}, out_channels {out_channels}; "
            "the former must be at least the latter"
        )
    return TransformerConfig(
        latent_channels=out_channels,
        condition_channels=full["in_channels"] - out_channels,
        text_dim=full["text_dim"],
        num_heads=full["num_attention_heads"],
        head_dim=full["attention_head_dim"],
        ffn_dim=full["ffn_dim"],
        num_layers=full["num_layers"],
        patch_size=tuple(full["patch_size"]),
        freq_dim=full["freq_dim"],
        cross_attention_norm=full["cross_attn_norm"],
        eps=full["eps"],
        image_dim=full["image_dim"],
        image_positions=full["pos_embed_seq_len"],
        max_positions=full["rope_max_seq_len"],
    )


def to_tree(config: TransformerConfig) -> dict[str, Any]:
    """Return what diffusers' `config.json` says of a model that it has."""
    return {
        "_class_name": WAN,
        "patch_size": list(config.patch_size),
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.head_dim,
        "in_channels": config.input_channels,
        "out_channels": config.latent_channels,
        "text_dim": config.text_dim,
        "freq_dim": config.freq_dim,
        "ffn_dim": config.ffn_dim,
        "num_layers": config.num_layers,
        "cross_attn_norm": config.cross_attention_norm,
        "qk_norm": "rms_norm_across_heads",
        "eps": config.eps,
        "image_dim": config.image_dim,
        "added_kv_proj_dim": None if config.image_dim is None else config.dim,
        "rope_max_seq_len": config.max_positions,
        "pos_embed_seq_len": config.image_positions,
    }


def unlike(config: TransformerConfig) -> list[str]:
    """Name what diffusers cannot express of a config."""
    told = dataclasses.asdict(from_tree(to_tree(config)))
    return [
        f"{name}={value!r}"
        for name, value in dataclasses.asdict(config).items()
        if name not in UNTOLD and value != told[name]
    ]
