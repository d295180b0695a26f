"""How training times are drawn and how samples are drawn.

Importing this file needs no torch, so that recipes stay light.
"""

import math
from dataclasses import dataclass
from typing import Literal

from video_models.diffusion.guidance_config import GuidanceConfig

Shift = float | Literal["auto"]
"""Time shift s of t -> s t / (1 + (s - 1) t): above 1 is noisier, 1 leaves t as it is, `auto`
follows the size of each clip by `video_models.diffusion.timesteps.auto_shift`."""


@dataclass(frozen=True, kw_only=True)
class TimestepConfig:
    """The density of training times in [0, 1], 1 being noise."""

    density: Literal["cosmap", "logit_normal", "mode", "uniform"] = "logit_normal"
    """`logit_normal` and `mode` favour the middle, `cosmap` has the times of the cosine schedule
    (Esser et al. 2024, arXiv 2403.03206, section 3.1)."""

    mean: float = 0.0
    """Mean of logit(t) before the shift; larger is noisier. `logit_normal` only."""

    std: float = 1.0
    """Standard deviation of logit(t). `logit_normal` only."""

    mode_scale: float = 1.29
    """How much the middle is favoured, or with numbers below 0 the ends. `mode` only."""

    shift: Shift = 1.0
    """Time shift of what was drawn."""

    def __post_init__(self) -> None:
        _check_shift(self.shift)
        if self.std <= 0:
            raise ValueError(f"std is {self.std!r}; it must be above 0")
        if not -1 <= self.mode_scale <= 2 / (math.pi - 2):
            raise ValueError(
                f"mode_scale is {self.mode_scale!r}; it must be between -1 and 2 / (pi - 2) = 1.75"
            )


@dataclass(frozen=True, kw_only=True)
class LossWeightConfig:
    """What the squared error of the velocity counts at each time."""

    kind: Literal["linear", "min_snr", "uniform"] = "uniform"
    """`uniform` counts all times alike, `linear` 2 t, `min_snr` as Hang et al. 2023
    (arXiv 2303.09556)."""

    gamma: float = 5.0
    """The signal-to-noise ratio from which the error of the clean sample counts no more.
    `min_snr` only."""

    def __post_init__(self) -> None:
        if self.gamma <= 0:
            raise ValueError(f"gamma is {self.gamma!r}; it must be above 0")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a trained model is sampled; stored in the model folder."""

    sampler: str = "euler"
    """A name in `video_models.diffusion.samplers.SAMPLERS`."""

    steps: int = 32
    """Steps from noise to clip."""

    guidance: float = 7.5
    """Scale w of v_u + w (v_c - v_u); 1 is off and costs half."""

    guiding: GuidanceConfig = GuidanceConfig()
    """What tempers guidance at high scales."""

    shift: Shift = 1.0
    """Time shift of the sampling grid; above 1 spends more steps near noise."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps!r}; it must be at least 1")
        if self.guidance < 0:
            raise ValueError(f"guidance is {self.guidance!r}; it must be 0 or more")
        _check_shift(self.shift)


def _check_shift(shift: Shift) -> None:
    if shift != "auto" and shift <= 0:
        raise ValueError(f"shift is {shift!r}; it must be above 0, or auto")
