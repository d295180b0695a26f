"""What turns latents into tokens: the shape and the knobs of a codebook.

Importing this file needs no torch, so that recipes and presets stay light.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal

from video_models.autoencoder.config import AutoencoderConfig

MOST_CODES = 1 << 20
"""Largest codebook: the uses of every code are counted."""

KNOBS = {
    "vq": ("num_codes", "code_dim", "normalised", "decay", "smoothing", "restart_below"),
    "fsq": ("levels",),
    "lfq": ("num_bits", "temperature", "diversity"),
}
"""Fields that each kind reads; the first is the size of its codebook and must be given."""


@dataclass(frozen=True, kw_only=True)
class QuantiserConfig:
    """A codebook of one of three kinds; the knobs of the other two keep their defaults."""

    kind: Literal["vq", "fsq", "lfq"]
    """`vq`: learned codes, the nearest one counts (van den Oord et al. 2017, arXiv 1711.00937).
    `fsq`: a grid, each number is rounded (Mentzer et al. 2023, arXiv 2309.15505).
    `lfq`: the corners of a cube, each number keeps its sign (Yu et al. 2023, arXiv 2310.05737)."""

    num_codes: int | None = None
    """Codes in the codebook. `vq`, which needs it."""

    code_dim: int | None = None
    """Numbers in a code; few of them keep more codes in use. None for the backbone's
    `latent_channels`. `vq` only."""

    normalised: bool = False
    """Whether latents and codes have length 1, so that the angle decides which code is nearest
    (Yu et al. 2021, arXiv 2110.04627, section 3.2). `vq` only."""

    decay: float = 0.99
    """Share of the codebook's moving averages that an update keeps. Runs of some hundred steps need
    less, 0.9, to find idle codes in time. `vq` only."""

    smoothing: float = 1e-5
    """Uses that every code is given for free (Laplace), so that no average divides by zero.
    `vq` only."""

    restart_below: float = 0.1
    """A code restarts at a latent of the batch when its moving use falls below this share of an
    even use of all codes; 0 never restarts. `vq` only."""

    levels: tuple[int, ...] | None = None
    """Values that each number of a code can take; their product is the size of the codebook.
    `fsq`, which needs it."""

    num_bits: int | None = None
    """Numbers in a code, each -1 or 1. `lfq`, which needs it."""

    temperature: float = 0.01
    """How far beyond the nearest code the entropies look: a latent z belongs to the code c with
    probability softmax(-|z - c|^2 / temperature). `lfq` only."""

    diversity: float = 1.0
    """How much the entropy of the codebook's use counts against that of single latents, gamma of
    the entropy penalty. `lfq` only."""

    def __post_init__(self) -> None:
        _check_kind(self)
        _check_sizes(self)
        _check_ranges(self)

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        sizes = {
            "vq": self.num_codes or 0,
            "fsq": math.prod(self.levels or ()),
            "lfq": 1 << (self.num_bits or 0),
        }
        return sizes[self.kind]

    def dim(self, latent_channels: int) -> int:
        """Return how many numbers a code has, behind a backbone of that many channels."""
        dims = {
            "vq": self.code_dim or latent_channels,
            "fsq": len(self.levels or ()),
            "lfq": self.num_bits or 0,
        }
        return dims[self.kind]


@dataclass(frozen=True, kw_only=True)
class TokenAutoencoderConfig:
    """Sizes and switches of a `TokenAutoencoder`: a continuous autoencoder's, and a codebook."""

    backbone: AutoencoderConfig
    """Encoder and decoder. Its normalisation stays None: tokens have none."""

    quantiser: QuantiserConfig
    """The codebook between them."""

    def __post_init__(self) -> None:
        for name in ("latents_mean", "latents_std"):
            if getattr(self.backbone, name) is not None:
                raise ValueError(
                    f"backbone.{name} is {getattr(self.backbone, name)!r}; tokens are not "
                    "normalised, so it must be None"
                )


def _check_kind(config: QuantiserConfig) -> None:
    if config.kind not in KNOBS:
        raise ValueError(f"kind is {config.kind!r}; known: {', '.join(sorted(KNOBS))}")
    needed = KNOBS[config.kind][0]
    if getattr(config, needed) is None:
        raise ValueError(f"kind {config.kind!r} needs {needed}, the size of its codebook")
    for field in fields(config):
        given = getattr(config, field.name)
        owners = [kind for kind, knobs in KNOBS.items() if field.name in knobs]
        if owners and config.kind not in owners and given != field.default:
            raise ValueError(
                f"{field.name} is {given!r}, which kind {config.kind!r} does not read; "
                f"leave it out, or set kind to {owners[0]!r}"
            )


def _check_sizes(config: QuantiserConfig) -> None:
    if not 2 <= config.codebook_size <= MOST_CODES or min(config.levels or (2,)) < 2:
        name = KNOBS[config.kind][0]
        raise ValueError(
            f"{name} is {getattr(config, name)!r}: a codebook of {config.codebook_size} codes; "
            f"allowed are 2 to {MOST_CODES}, and at least 2 levels in each place"
        )
    if config.code_dim is not None and config.code_dim < 1:
        raise ValueError(f"code_dim is {config.code_dim!r}; it must be at least 1, or None")


def _check_ranges(config: QuantiserConfig) -> None:
    if not 0 <= config.decay < 1:
        raise ValueError(f"decay is {config.decay!r}; it must lie in [0, 1)")
    if not 0 <= config.restart_below < 1:
        raise ValueError(f"restart_below is {config.restart_below!r}; it must lie in [0, 1)")
    for name in ("smoothing", "temperature"):
        if getattr(config, name) <= 0:
            raise ValueError(f"{name} is {getattr(config, name)!r}; it must be above 0")
    if config.diversity < 0:
        raise ValueError(f"diversity is {config.diversity!r}; it must not be negative")
