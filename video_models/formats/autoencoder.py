"""Autoencoder folders: ours of both kinds, diffusers' of Wan and HunyuanVideo, and Wan's own files.

Parameters carry the names of diffusers' `AutoencoderKLWan`, so of its folders only the config is
translated; Wan's own names are in `wan_names.py`, HunyuanVideo's in `hunyuan.py`. What diffusers
can express is written so that diffusers opens it.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from torch import Tensor

from video_models.autoencoder.config import AutoencoderConfig, Resampler
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.autoencoder.warm_start import AnyAutoencoder, backbone
from video_models.formats import hunyuan, tokens
from video_models.formats.folder import ModelFormatError, open_model, write_folder
from video_models.formats.wan_checkpoint import open_original, original_file
from video_models.formats.wan_names import LATENTS, unlike_wan

OURS = "CausalAutoencoder"
WAN = "AutoencoderKLWan"
KINDS: dict[Resampler, str] = {
    "shuffle": hunyuan.HUNYUAN_15,
    "strided": hunyuan.HUNYUAN,
    "wan": WAN,
}
"""The class of diffusers that has each kind of resampler."""

FAMILIES = {WAN: "Wan", hunyuan.HUNYUAN: "HunyuanVideo", hunyuan.HUNYUAN_15: "HunyuanVideo 1.5"}
"""What the models of a class are called."""

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
    **LATENTS["wan-2.1"],
}
"""What a published config leaves out: the values of Wan 2.1."""

Format = Literal["auto", "native", "diffusers"]
A = TypeVar("A", Autoencoder, TokenAutoencoder)


@overload
def open_autoencoder(path: str | Path) -> AnyAutoencoder: ...
@overload
def open_autoencoder(path: str | Path, kind: type[A]) -> A: ...
def open_autoencoder(path: str | Path, kind: type[A] | None = None) -> AnyAutoencoder:
    """Open an autoencoder in float32, in evaluation mode.

    Args:
        path: a folder of ours or of diffusers', or one of Wan's own files (`Wan2.1_VAE.pth`,
            `Wan2.2_VAE.pth`, or safetensors with the same names), or a folder that holds one.
        kind: the class that is needed; None takes what the folder holds.

    Raises:
        ModelFormatError: it is no such folder or file, a variant that is not supported, or of
            another kind.
    """
    original = original_file(path)
    model: AnyAutoencoder = open_original(original) if original else _open_folder(path)
    if kind is not None and not isinstance(model, kind):
        raise ModelFormatError(
            f"{path} holds a {type(model).__name__}; what reads it needs a {kind.__name__}"
        )
    return model


def save_autoencoder(model: AnyAutoencoder, folder: str | Path, format: Format = "auto") -> None:
    """Write an autoencoder folder in place of what is there.

    Args:
        model: what to write.
        folder: where to.
        format: `diffusers` writes what `from_pretrained` of diffusers' class opens (the one of
            Wan or of HunyuanVideo that has the model's resamplers), `native` what only this
            project opens, and `auto` the former where it can express the model.

    Raises:
        ModelFormatError: diffusers cannot express the model; the message names the settings.
    """
    if format not in ("auto", "native", "diffusers"):
        raise ModelFormatError(f"format is {format!r}; it is auto, native or diffusers")
    kind = KINDS[backbone(model).resampler]
    reasons = ["tokens"] if isinstance(model, TokenAutoencoder) else _unlike(model.config, kind)
    if format == "diffusers" and reasons:
        raise ModelFormatError(
            f"diffusers has no {FAMILIES[kind]} autoencoder with {', with '.join(reasons)}; "
            'save it with format="native"'
        )
    state = model.state_dict()
    if isinstance(model, TokenAutoencoder):
        tree = tokens.to_tree(model.config)
    elif format == "native" or reasons:
        tree = {"_class_name": OURS, **dataclasses.asdict(model.config)}
    elif kind == WAN:
        tree = _to_wan(model.config)
    else:
        tree, state = hunyuan.to_tree(model.config, kind), hunyuan.to_published(state, kind)
    write_folder(folder, tree, state)


def _unlike(config: AutoencoderConfig, kind: str) -> list[str]:
    """Name what diffusers' class cannot express of a config."""
    return unlike_wan(config) if kind == WAN else hunyuan.unlike(config, kind)


def _open_folder(folder: str | Path) -> AnyAutoencoder:
    builders: dict[str, Callable[[dict[str, Any]], AnyAutoencoder]] = {
        WAN: lambda tree: Autoencoder(_from_wan(tree)),
        OURS: lambda tree: Autoencoder(_from_ours(tree)),
        tokens.TOKENS: lambda tree: TokenAutoencoder(tokens.from_tree(tree)),
    }
    renamers: dict[str, Callable[[dict[str, Tensor], AnyAutoencoder], dict[str, Tensor]]] = {}
    for kind in (hunyuan.HUNYUAN, hunyuan.HUNYUAN_15):
        builders[kind] = lambda tree: Autoencoder(hunyuan.from_tree(tree))
        renamers[kind] = partial(_renamed, kind)
    return open_model(folder, builders, what="an autoencoder", renamers=renamers)


def _renamed(kind: str, state: dict[str, Tensor], model: AnyAutoencoder) -> dict[str, Tensor]:
    return hunyuan.from_published(state, model.state_dict(), kind)


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
