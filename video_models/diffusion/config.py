"""How training times are drawn and how samples are drawn.

Importing this file needs no torch, so that recipes stay light.
"""

from dataclasses import dataclass
from typing import Literal

from video_models.diffusion.guidance_config import GuidanceConfig


@dataclass(frozen=True, kw_only=True)
class TimestepConfig:
    """The density of training times in [0, 1], 1 being noise."""

    density: Literal["logit_normal", "uniform"] = "logit_normal"
    """`logit_normal` favours the middle (Esser et al. 2024, arXiv 2403.03206)."""

    mean: float = 0.0
    """Mean of logit(t) before the shift; larger is noisier. `logit_normal` only."""

    std: float = 1.0
    """Standard deviation of logit(t). `logit_normal` only."""

    shift: float = 1.0
    """Time shift s of t -> s t / (1 + (s - 1) t); above 1 is noisier, 1 leaves t as it is."""

    def __post_init__(self) -> None:
        if self.std <= 0 or self.shift <= 0:
            raise ValueError(
                f"std is {self.std!r} and shift is {self.shift!r}; both must be above 0"
            )


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

    shift: float = 1.0
    """Time shift of the sampling grid; above 1 spends more steps near noise."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps!r}; it must be at least 1")
        if self.guidance < 0 or self.shift <= 0:
            raise ValueError(
                f"guidance is {self.guidance!r} and shift is {self.shift!r}; "
                "guidance must be 0 or more, shift above 0"
            )
