"""Autoencoder folders: ours, and diffusers' `AutoencoderKLWan` (Wan 2.1 and 2.2).

Parameters carry their published names, so only the config is translated. What diffusers can
express is written so that diffusers opens it.
"""

import dataclasses
from pathlib import Path
from typing import Any

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_models.formats.folder import open_model, write_folder

OURS = "CausalAutoencoder"
WAN = "AutoencoderKLWan"

WAN_DEFAULTS: dict[str, Any] = {
    "base_dim": 96,
    "decoder_base_dim": None,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
    "dropout": 0.0,
    "is_residual": False,
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": None,
    "latents_mean": [
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    ],
    "latents_std": [
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
        3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    ],
}  # fmt: skip
"""What a published config leaves out: the values of Wan 2.1."""


def open_autoencoder(folder: str | Path) -> Autoencoder:
    """Open an autoencoder folder in float32, in evaluation mode.

    Raises:
        ModelFormatError: it is no such folder, or a variant that is not supported.
    """
    builders = {
        WAN: lambda tree: Autoencoder(_from_wan(tree)),
        OURS: lambda tree: Autoencoder(_from_ours(tree)),
    }
    return open_model(folder, builders, what="an autoencoder")


def save_autoencoder(model: Autoencoder, folder: str | Path) -> None:
    """Write an autoencoder folder, one that diffusers opens where it can express the model."""
    config = model.config
    tree = _to_wan(config) if _is_wan(config) else _to_ours(config)
    write_folder(folder, tree, model.state_dict())


def _is_wan(config: AutoencoderConfig) -> bool:
    """Say whether diffusers can express it: its levels all halve space, and time at most twice."""
    return all(config.space_down) and config.temporal_factor <= 4 and config.kernel_frames == 3


def _from_wan(tree: dict[str, Any]) -> AutoencoderConfig:
    full = {**WAN_DEFAULTS, **tree}
    if full["attn_scales"]:
        raise ValueError(f"attn_scales is {full['attn_scales']!r}; only [] is supported")
    patch_size = full["patch_size"] or 1
    channels, rest = divmod(full["in_channels"], patch_size**2)
    if rest or full["out_channels"] != full["in_channels"]:
        raise ValueError(
            f"in_channels is {full['in_channels']}, out_channels {full['out_channels']}; they must "
            f"be the same multiple of patch_size squared ({patch_size**2})"
        )
    return AutoencoderConfig(
        base_dim=full["base_dim"],
        decoder_dim=full["decoder_base_dim"],
        latent_channels=full["z_dim"],
        dim_mult=tuple(full["dim_mult"]),
        num_res_blocks=full["num_res_blocks"],
        space_down=(True,) * (len(full["dim_mult"]) - 1),
        time_down=tuple(full["temperal_downsample"]),
        channels=channels,
        patch_size=patch_size,
        residual_resampling=full["is_residual"],
        dropout=full["dropout"],
        latents_mean=tuple(full["latents_mean"]),
        latents_std=tuple(full["latents_std"]),
    )


def _to_wan(config: AutoencoderConfig) -> dict[str, Any]:
    size = config.latent_channels
    return {
        "_class_name": WAN,
        "base_dim": config.base_dim,
        "decoder_base_dim": config.decoder_dim,
        "z_dim": size,
        "dim_mult": list(config.dim_mult),
        "num_res_blocks": config.num_res_blocks,
        "attn_scales": [],
        "temperal_downsample": list(config.time_down),
        "dropout": config.dropout,
        "is_residual": config.residual_resampling,
        "in_channels": config.channels * config.patch_size**2,
        "out_channels": config.channels * config.patch_size**2,
        "patch_size": config.patch_size if config.patch_size > 1 else None,
        "latents_mean": list(config.latents_mean or (0.0,) * size),
        "latents_std": list(config.latents_std or (1.0,) * size),
        "scale_factor_temporal": config.temporal_factor,
        "scale_factor_spatial": config.spatial_factor,
    }


def _from_ours(tree: dict[str, Any]) -> AutoencoderConfig:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in tree.items()
        if not key.startswith("_")
    }
    return AutoencoderConfig(**values)


def _to_ours(config: AutoencoderConfig) -> dict[str, Any]:
    return {"_class_name": OURS, **dataclasses.asdict(config)}
