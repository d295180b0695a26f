"""Transformer folders: ours, diffusers' of Wan, and Wan's own checkpoints.

Parameters carry the names of diffusers' `WanTransformer3DModel`, so of its folders only the config
is translated: text to video and image to video of Wan 2.1 and 2.2. Wan's own names are in
`wan_transformer_names.py`. What diffusers can express is written so that diffusers opens it.
Published models count time from 0 to 1000, ours from 0 to 1: the models themselves convert.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from video_models.formats import wan_transformer_names
from video_models.formats.folder import (
    ModelFormatError,
    build_model,
    read_folder,
    write_folder,
)
from video_models.formats.tensor_file import read_tensors
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

Format = Literal["auto", "native", "diffusers"]

IN_FLOAT32 = {"time_embedder", "guidance_embedder", "scale_shift_table", "norm1", "norm2", "norm3"}
"""Parts of names of what stays in float32 in a model of 16 bits, as diffusers has it."""

UNSEEN = ("norm_added_q",)
"""Parts of names of what published files hold and no model computes with."""

UNTOLD = {"zero_init_output", "trained_grid"}
"""Fields that no trained model depends on, or only by another field."""


def open_transformer(
    path: str | Path, *, dtype: torch.dtype | None = torch.float32
) -> VideoTransformer:
    """Open a transformer in evaluation mode.

    Args:
        path: a folder of ours or of diffusers', sharded or not; or Wan's own: its folder, or a
            `.safetensors` or `.pth` file of it.
        dtype: what to compute in; of 16 bits, time, modulation and norms stay in float32. On a CPU
            without units for bfloat16, float32 is the faster one. None keeps what each tensor has.

    Raises:
        ModelFormatError: it is no such folder or file, or a variant that is not supported.
    """
    path = Path(path)
    tree, state = ({}, read_tensors(path)) if path.is_file() else read_folder(path)
    try:
        if wan_transformer_names.is_original(tree, state):
            tree, state = wan_transformer_names.published(tree, state)
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from None
    builders = {
        WAN: lambda tree: _unfilled(_from_wan(tree)),
        OURS: lambda tree: _unfilled(_from_ours(tree)),
    }
    seen = {name: x for name, x in state.items() if not any(part in name for part in UNSEEN)}

    def dtype_of(name: str, tensor: Tensor) -> torch.dtype:
        if dtype is None:
            return tensor.dtype
        wide = not IN_FLOAT32.isdisjoint(name.split("."))
        return torch.promote_types(dtype, torch.float32) if wide else dtype

    return build_model(tree, seen, builders, where=path, what="a transformer", dtype_of=dtype_of)


def save_transformer(model: VideoTransformer, folder: str | Path, format: Format = "auto") -> None:
    """Write a transformer folder in place of what is there; tensors keep their dtypes.

    Args:
        model: what to write.
        folder: where to.
        format: `diffusers` writes what `from_pretrained` of diffusers' class opens, `native` what
            only this project opens, and `auto` the former where it can express the model.

    Raises:
        ModelFormatError: diffusers cannot express the model; the message names the settings.
    """
    if format not in ("auto", "native", "diffusers"):
        raise ModelFormatError(f"format is {format!r}; it is auto, native or diffusers")
    reasons = _unlike_wan(model.config)
    if format == "diffusers" and reasons:
        raise ModelFormatError(
            f"diffusers has no Wan transformer with {', with '.join(reasons)}; "
            'save it with format="native"'
        )
    native = format == "native" or reasons
    write_folder(
        folder, _to_ours(model.config) if native else _to_wan(model.config), model.state_dict()
    )


def _unfilled(config: TransformerConfig) -> VideoTransformer:
    with torch.device("meta"):
        return VideoTransformer(config)


def _unlike_wan(config: TransformerConfig) -> list[str]:
    """Name what diffusers' class cannot express of a config."""
    opened = _from_wan(_to_wan(config))
    return [
        f"{field.name}={getattr(config, field.name)!r}"
        for field in dataclasses.fields(config)
        if field.name not in UNTOLD and getattr(config, field.name) != getattr(opened, field.name)
    ]


def _from_wan(tree: dict[str, Any]) -> TransformerConfig:
    full = {**WAN_DEFAULTS, **tree}
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


def _to_wan(config: TransformerConfig) -> dict[str, Any]:
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


def _from_ours(tree: dict[str, Any]) -> TransformerConfig:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in tree.items()
        if not key.startswith("_")
    }
    return TransformerConfig(**values)


def _to_ours(config: TransformerConfig) -> dict[str, Any]:
    return {"_class_name": OURS, **dataclasses.asdict(config)}
