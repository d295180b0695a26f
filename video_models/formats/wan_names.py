"""Wan's own checkpoints, `Wan2.1_VAE.pth` and `Wan2.2_VAE.pth`: other names, and no config.

Both sides build the same modules in the same order, so names are translated by structure, and the
config is read off names and shapes. What no shape tells, the normalisation, is known for the two
published sizes alone. Structure: Wan-Video/Wan2.1 `wan/modules/vae.py`, Wan-Video/Wan2.2
`wan/modules/vae2_2.py`.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from video_models.autoencoder.config import AutoencoderConfig
from video_models.formats.folder import ModelFormatError
from video_models.presets import AUTOENCODERS

LATENTS: dict[str, dict[str, Any]] = {
    "wan-2.1": {
        "latents_mean": (
            -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
            0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
        ),
        "latents_std": (
            2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
            3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
        ),
    },
    "wan-2.2": {
        "latents_mean": (
            -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557,
            -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825,
            -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
            -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230,
            -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748,
            0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
        ),
        "latents_std": (
            0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
            0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
            0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
            0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
            0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
            0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
        ),
    },
}  # fmt: skip
"""The published normalisation, by the preset of the size that it belongs to."""

RESIDUAL = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
"""Our names and Wan's inside of a residual block; where there is no shortcut, it is not looked
for."""

ENDS = {
    "conv_in": "conv1",
    "mid_block.attentions.0.norm": "middle.1.norm",
    "mid_block.attentions.0.to_qkv": "middle.1.to_qkv",
    "mid_block.attentions.0.proj": "middle.1.proj",
    "norm_out": "head.0",
    "conv_out": "head.2",
}
"""Our names and Wan's at both ends of encoder and decoder."""

SHARED = frozenset(
    {
        "base_dim", "latent_channels", "dim_mult", "num_res_blocks", "space_down", "time_down",
        "decoder_dim", "channels", "patch_size", "residual_resampling", "dropout",
        "latents_mean", "latents_std",
    }
)  # fmt: skip
"""Fields of our config that Wan's design has too; every other one must be at its default."""

MAX_TEMPORAL_FACTOR = 4
"""Wan's code and diffusers' both encode in chunks of four frames, by a fixed number."""

_BLOCK = re.compile(r"(encoder\.downsamples\.(?:(\d+)\.downsamples\.)?(\d+))\.")


def is_original(state: Mapping[str, Tensor]) -> bool:
    """Say whether tensors carry Wan's own names."""
    return "encoder.conv1.weight" in state


def module_names(config: AutoencoderConfig) -> dict[str, str]:
    """Return Wan's name for each of our modules that holds parameters."""
    names = {"quant_conv": "conv1", "post_quant_conv": "conv2"}
    for half in ("encoder", "decoder"):
        names |= {f"{half}.{ours}": f"{half}.{theirs}" for ours, theirs in ENDS.items()}
        for i in range(2):
            names |= _inside(f"{half}.mid_block.resnets.{i}", f"{half}.middle.{2 * i}", RESIDUAL)
    for up in (False, True):
        for ours, theirs, inside in _row(config, up=up):
            names |= _inside(ours, theirs, inside)
    return names


def from_original(state: Mapping[str, Tensor], config: AutoencoderConfig) -> dict[str, Tensor]:
    """Rename Wan's parameters to ours, which are those of diffusers.

    Raises:
        ModelFormatError: a parameter has no place in that autoencoder.
    """
    table = {theirs: ours for ours, theirs in module_names(config).items()}
    return _rename(state, table)


def to_original(state: Mapping[str, Tensor], config: AutoencoderConfig) -> dict[str, Tensor]:
    """Rename our parameters to Wan's.

    Raises:
        ModelFormatError: Wan's code has no such autoencoder.
    """
    reasons = unlike_wan(config)
    patch_size = 2 if config.residual_resampling else 1
    if config.patch_size != patch_size:
        reasons.append(
            f"patch_size={config.patch_size} with "
            f"residual_resampling={config.residual_resampling} (it folds by {patch_size} there)"
        )
    if not config.residual_resampling and config.width_up != config.base_dim:
        reasons.append(f"decoder_dim={config.decoder_dim} without residual_resampling")
    if reasons:
        raise ModelFormatError(f"Wan's code has no {'; no '.join(reasons)}; save a folder instead")
    return _rename(state, module_names(config))


def unlike_wan(config: AutoencoderConfig) -> list[str]:
    """Name the settings, as `field=value`, that neither Wan's code nor diffusers' has."""
    reasons = []
    if not all(config.space_down):
        reasons.append(f"space_down={config.space_down} (every level halves space there)")
    if config.temporal_factor > MAX_TEMPORAL_FACTOR:
        reasons.append(
            f"time_down={config.time_down} (time shrinks by {MAX_TEMPORAL_FACTOR} at most there)"
        )
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in SHARED and value != field.default:
            reasons.append(f"{field.name}={value!r}")
    return reasons


def config_of(state: Mapping[str, Tensor]) -> AutoencoderConfig:
    """Read the config off Wan's names and shapes; with the normalisation of a published size.

    Raises:
        ModelFormatError: the tensors are not those of such an autoencoder.
    """
    nested = any(name.startswith("encoder.downsamples.0.downsamples.") for name in state)
    patch_size = 2 if nested else 1
    try:
        widths, time_down, num_blocks = _levels(state)
        base_dim, in_channels = state["encoder.conv1.weight"].shape[:2]
        latent_channels = state["conv2.weight"].shape[0]
        decoder_dim = state["decoder.conv1.weight"].shape[0] * base_dim // widths[-1]
    except (KeyError, IndexError) as error:
        raise ModelFormatError(f"these are not the tensors of Wan's autoencoder: {error}") from None
    config = AutoencoderConfig(
        base_dim=base_dim,
        decoder_dim=None if decoder_dim == base_dim else decoder_dim,
        latent_channels=latent_channels,
        dim_mult=tuple(width // base_dim for width in widths),
        num_res_blocks=num_blocks // len(widths),
        space_down=(True,) * len(time_down),
        time_down=tuple(time_down),
        channels=in_channels // patch_size**2,
        patch_size=patch_size,
        residual_resampling=nested,
    )
    for name, latents in LATENTS.items():
        if config == AUTOENCODERS[name]:
            return dataclasses.replace(config, **latents)
    return config


def _levels(state: Mapping[str, Tensor]) -> tuple[list[int], list[bool], int]:
    """Walk the encoder's row: width of each level, which resamplers halve time, all blocks."""
    places = {
        match[1]: (int(match[2] or 0), int(match[3]))
        for name in state
        if (match := _BLOCK.match(name))
    }
    widths: list[int] = []
    time_down: list[bool] = []
    num_blocks = 0
    for place in sorted(places, key=lambda place: places[place]):
        if f"{place}.resample.1.weight" in state:
            time_down.append(f"{place}.time_conv.weight" in state)
            continue
        width = state[f"{place}.residual.2.weight"].shape[0]
        num_blocks += 1
        if len(widths) == len(time_down):  # the first block behind a resampler
            widths.append(width)
    return widths, time_down, num_blocks


def _row(config: AutoencoderConfig, *, up: bool) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield our name, Wan's, and the names inside, of blocks and resamplers in their order."""
    half, blocks, samples = (
        ("decoder", "up_blocks", "upsamples") if up else ("encoder", "down_blocks", "downsamples")
    )
    num_blocks, number = config.num_res_blocks + up, 0
    nested, levels = config.residual_resampling, len(config.dim_mult)
    for level in range(levels):
        for i in range(num_blocks + (level < levels - 1)):
            if not nested and not up:
                ours = f"{number}"
            elif i < num_blocks:
                ours = f"{level}.resnets.{i}"
            else:
                ours = f"{level}.{samples[:-1]}r" if nested else f"{level}.{samples[:-1]}rs.0"
            theirs = f"{level}.{samples}.{i}" if nested else f"{number}"
            resampler = {name: name for name in ("resample.1", "time_conv")}
            inside = RESIDUAL if i < num_blocks else resampler
            yield f"{half}.{blocks}.{ours}", f"{half}.{samples}.{theirs}", inside
            number += 1


def _inside(ours: str, theirs: str, names: Mapping[str, str]) -> dict[str, str]:
    return {f"{ours}.{mine}": f"{theirs}.{other}" for mine, other in names.items()}


def _rename(state: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in state.items():
        module, _, leaf = name.rpartition(".")
        if module not in table:
            raise ModelFormatError(f"{name!r} has no place in Wan's autoencoder")
        renamed[f"{table[module]}.{leaf}"] = tensor
    return renamed
