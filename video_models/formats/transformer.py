"""Transformer folders: ours, and diffusers' `WanTransformer3DModel` for text to video.

Parameters carry their published names, so only the config is translated. What diffusers can
express is written so that diffusers opens it.
"""

import dataclasses
from pathlib import Path
from typing import Any

from video_models.formats.folder import open_model, write_folder
from video_models.transformer.config import TransformerConfig
from video_models.transformer.model import VideoTransformer

OURS = "VideoTransformer"
WAN = "WanTransformer3DModel"

WAN_DEFAULTS: dict[str, Any] = {
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

UNSUPPORTED = ("image_dim", "added_kv_proj_dim", "pos_embed_seq_len")
"""Keys of image-to-video models; only null is supported."""


def open_transformer(folder: str | Path) -> VideoTransformer:
    """Open a transformer folder in float32, in evaluation mode.

    Raises:
        ModelFormatError: it is no such folder, or a variant that is not supported.
    """
    builders = {
        WAN: lambda tree: VideoTransformer(_from_wan(tree)),
        OURS: lambda tree: VideoTransformer(_from_ours(tree)),
    }
    return open_model(folder, builders, what="a transformer")


def save_transformer(model: VideoTransformer, folder: str | Path) -> None:
    """Write a transformer folder, one that diffusers opens where it can express the model."""
    config = model.config
    tree = _to_wan(config) if _is_wan(config) else _to_ours(config)
    write_folder(folder, tree, model.state_dict())


def _is_wan(config: TransformerConfig) -> bool:
    """Say whether diffusers can express it."""
    ours_alone = config.guidance_embedding or config.absolute_positions
    return config.text_padding == "zeros" and not ours_alone


def _from_wan(tree: dict[str, Any]) -> TransformerConfig:
    full = {**WAN_DEFAULTS, **tree}
    for key in UNSUPPORTED:
        if full[key] is not None:
            raise ValueError(f"{key} is {full[key]!r}; image-to-video models are not supported")
    if full["out_channels"] not in (None, full["in_channels"]):
        raise ValueError(
            f"in_channels is {full['in_channels']}, out_channels {full['out_channels']}; "
            "they must be the same"
        )
    return TransformerConfig(
        latent_channels=full["in_channels"],
        text_dim=full["text_dim"],
        num_heads=full["num_attention_heads"],
        head_dim=full["attention_head_dim"],
        ffn_dim=full["ffn_dim"],
        num_layers=full["num_layers"],
        patch_size=tuple(full["patch_size"]),
        freq_dim=full["freq_dim"],
        cross_attention_norm=full["cross_attn_norm"],
        eps=full["eps"],
        max_positions=full["rope_max_seq_len"],
    )


def _to_wan(config: TransformerConfig) -> dict[str, Any]:
    return {
        "_class_name": WAN,
        "patch_size": list(config.patch_size),
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.head_dim,
        "in_channels": config.latent_channels,
        "out_channels": config.latent_channels,
        "text_dim": config.text_dim,
        "freq_dim": config.freq_dim,
        "ffn_dim": config.ffn_dim,
        "num_layers": config.num_layers,
        "cross_attn_norm": config.cross_attention_norm,
        "qk_norm": "rms_norm_across_heads",
        "eps": config.eps,
        "image_dim": None,
        "added_kv_proj_dim": None,
        "rope_max_seq_len": config.max_positions,
        "pos_embed_seq_len": None,
    }


def _from_ours(tree: dict[str, Any]) -> TransformerConfig:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in tree.items()
        if not key.startswith("_")
    }
    return TransformerConfig(**values)


def _to_ours(config: TransformerConfig) -> dict[str, Any]:
    return {"_class_name": OURS, **dataclasses.asdict(config)}
