"""HunyuanVideo's autoencoders as diffusers has them, 1.0 and 1.5: configs and parameter names.

Structure: `AutoencoderKLHunyuanVideo` and `AutoencoderKLHunyuanVideo15` of diffusers 0.42.1. One
number scales all latents there, which here is one standard deviation for all channels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from video_models.autoencoder.config import AutoencoderConfig

HUNYUAN = "AutoencoderKLHunyuanVideo"
HUNYUAN_15 = "AutoencoderKLHunyuanVideo15"

DEFAULTS: dict[str, dict[str, Any]] = {
    HUNYUAN: {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 16,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "act_fn": "silu",
        "norm_num_groups": 32,
        "scaling_factor": 0.476986,
        "spatial_compression_ratio": 8,
        "temporal_compression_ratio": 4,
        "mid_block_add_attention": True,
    },
    HUNYUAN_15: {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 32,
        "block_out_channels": [128, 256, 512, 1024, 1024],
        "layers_per_block": 2,
        "spatial_compression_ratio": 16,
        "temporal_compression_ratio": 4,
        "downsample_match_channel": True,
        "upsample_match_channel": True,
        "scaling_factor": 1.03682,
    },
}
"""What a published config leaves out."""

SWITCHES: dict[str, dict[str, Any]] = {
    HUNYUAN: {
        "padding": "replicate",
        "norm": "group_clip",
        "resampler": "strided",
        "mid_attention": "clip",
    },
    HUNYUAN_15: {
        "padding": "replicate",
        "resampler": "shuffle",
        "mid_attention": "clip",
        "latent_convs": False,
    },
}
"""How our autoencoder becomes theirs."""

FIXED: dict[str, dict[str, tuple[Any, ...]]] = {
    HUNYUAN: {
        "act_fn": ("silu", "swish"),
        "mid_block_add_attention": (True,),
        "temporal_compression_ratio": (4,),
    },
    HUNYUAN_15: {"downsample_match_channel": (True,), "upsample_match_channel": (True,)},
}
"""Settings of theirs that have one value here."""

CONVOLUTIONS = ("conv_in", "conv_out", "conv1", "conv2", "samplers.0.conv")
QKV = tuple(f"attentions.0.to_{letter}" for letter in "qkv")
NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    HUNYUAN: {
        **{name: (f"{name}.conv",) for name in (*CONVOLUTIONS, "conv_shortcut")},
        "norm_out": ("conv_norm_out",),
        "attentions.0.norm": ("attentions.0.group_norm",),
        "attentions.0.to_qkv": QKV,
        "attentions.0.proj": ("attentions.0.to_out.0",),
    },
    HUNYUAN_15: {
        **{name: (f"{name}.conv",) for name in CONVOLUTIONS},
        "attentions.0.to_qkv": QKV,
        "attentions.0.proj": ("attentions.0.proj_out",),
    },
}
"""How our modules end and theirs; several of theirs are stacked in one of ours."""

KERNEL_AXES = {HUNYUAN: 0, HUNYUAN_15: 3}
"""Axes behind the channels of what projects queries, keys and values."""


def from_tree(tree: Mapping[str, Any]) -> AutoencoderConfig:
    """Return the config of a published `config.json`.

    Raises:
        ValueError: a setting is not supported.
    """
    kind = tree["_class_name"]
    full = {**DEFAULTS[kind], **tree}
    widths, size = full["block_out_channels"], full["latent_channels"]
    _check(full, kind)
    between = len(widths) - 1
    halvings = full["temporal_compression_ratio"].bit_length() - 1
    time_down = (False,) * (between - halvings) + (True,) * halvings
    return AutoencoderConfig(
        base_dim=widths[0],
        latent_channels=size,
        dim_mult=tuple(width // widths[0] for width in widths),
        num_res_blocks=full["layers_per_block"],
        space_down=(True,) * between,
        time_down=time_down,
        time_up=time_down if kind == HUNYUAN else None,
        channels=full["in_channels"],
        norm_groups=full.get("norm_num_groups", AutoencoderConfig.norm_groups),
        latents_std=(1 / full["scaling_factor"],) * size,
        **SWITCHES[kind],
    )


def to_tree(config: AutoencoderConfig, kind: str) -> dict[str, Any]:
    """Return the `config.json` of diffusers' class of that name; see `unlike`."""
    levels, std = len(config.dim_mult), (config.latents_std or (1.0,))[0]
    settings = {
        "in_channels": config.channels,
        "out_channels": config.channels,
        "latent_channels": config.latent_channels,
        "block_out_channels": list(config.dims),
        "layers_per_block": config.num_res_blocks,
        "norm_num_groups": config.norm_groups,
        "spatial_compression_ratio": config.spatial_factor,
        "temporal_compression_ratio": config.temporal_factor,
        "scaling_factor": float(f"{1 / std:.12g}"),
    }
    kept = {name: settings.get(name, value) for name, value in DEFAULTS[kind].items()}
    if kind == HUNYUAN:
        for way in ("down", "up"):
            kept[f"{way}_block_types"] = [f"HunyuanVideo{way.title()}Block3D"] * levels
    return {"_class_name": kind, **kept}


def unlike(config: AutoencoderConfig, kind: str) -> list[str]:
    """Name what diffusers' class cannot express of a config: what is another after a round trip."""
    try:
        again = _settled(from_tree(to_tree(config, kind)))
    except ValueError as error:
        return [str(error)]
    mine = _settled(config)
    reasons = [
        f"{field.name}={getattr(config, field.name)!r}"
        for field in dataclasses.fields(config)
        if getattr(mine, field.name) != getattr(again, field.name)
    ]
    if any(config.latents_mean or ()) or len({*(config.latents_std or ())}) > 1:
        reasons.append("a mean or a standard deviation for each latent channel")
    return reasons


def from_published(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], kind: str
) -> dict[str, Tensor]:
    """Give published parameters our names and shapes; what has no place keeps its own name."""
    rest, ours = dict(state), {}
    for name, target in wanted.items():
        parts = [rest.pop(each) for each in _theirs(name, kind) if each in rest]
        if parts:
            tensor = torch.cat(parts)
            fits = tensor.numel() == target.numel()
            ours[name] = tensor.reshape(target.shape) if fits else tensor
    return ours | rest


def to_published(state: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Undo `from_published`."""
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        names = _theirs(name, kind)
        if ".attentions.0." in name and name.endswith(".weight") and tensor.ndim > 1:
            tensor = tensor.reshape(*tensor.shape[:2], *[1] * KERNEL_AXES[kind])
        theirs |= dict(zip(names, tensor.chunk(len(names)), strict=True))
    return theirs


def _theirs(name: str, kind: str) -> tuple[str, ...]:
    module, _, leaf = name.rpartition(".")
    for ours, theirs in NAMES[kind].items():
        if module.endswith(ours):
            return tuple(f"{module.removesuffix(ours)}{each}.{leaf}" for each in theirs)
    return (name,)


def _settled(config: AutoencoderConfig) -> AutoencoderConfig:
    """Write down what is left open, and leave the normalisation out."""
    return dataclasses.replace(
        config,
        decoder_dim=config.width_up,
        time_up=config.time_growth,
        norm_groups=config.norm_groups if config.norm != "channel_rms" else 1,
        latents_mean=None,
        latents_std=None,
    )


def _check(full: Mapping[str, Any], kind: str) -> None:
    for name, values in FIXED[kind].items():
        if full[name] not in values:
            raise ValueError(f"{name} is {full[name]!r}; only {values[0]!r} is supported")
    if full["out_channels"] != full["in_channels"]:
        raise ValueError(
            f"in_channels is {full['in_channels']}, out_channels {full['out_channels']}; "
            "they must be the same"
        )
    widths, space = full["block_out_channels"], full["spatial_compression_ratio"]
    if any(width % widths[0] for width in widths) or space != 2 ** (len(widths) - 1):
        raise ValueError(
            f"block_out_channels is {list(widths)!r} with spatial_compression_ratio {space}; "
            "each must be a multiple of the first, and space must halve between each two"
        )
    time = full["temporal_compression_ratio"]
    if time & (time - 1) or not 1 <= time <= space:
        raise ValueError(
            f"temporal_compression_ratio is {time}; it must be a power of 2, at most {space}"
        )
