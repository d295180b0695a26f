"""Times: how they are shifted, drawn for training and laid out for sampling.

A shift s moves times towards noise, t -> s t / (1 + (s - 1) t): videos of more tokens need more
noise for the same loss of information (Esser et al. 2024, arXiv 2403.03206, equation 23).
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor

from video_models.diffusion.config import Shift, TimestepConfig


def shift_times(t: Tensor, shift: float) -> Tensor:
    """Return s t / (1 + (s - 1) t); 0 and 1 stay where they are."""
    return t / (t + (1 - t) / shift)  # written so that 1 stays 1 to the last bit


def unshift_times(t: Tensor, shift: float) -> Tensor:
    """Return the times that `shift_times` maps to t."""
    return shift_times(t, 1 / shift)


def auto_shift(grid: tuple[int, int, int]) -> float:
    """Return the shift for clips of so many tokens along frames, rows and columns.

    A frame of 256 tokens, 256 x 256 pixels of most models, is not shifted, one of 4096 tokens by 3,
    others in proportion; T frames shift sqrt(T) times as much (Open-Sora 2.0, arXiv 2503.09642).
    """
    T, H, W = grid
    return (1.0 + 2.0 * (H * W - 256) / (4096 - 256)) * math.sqrt(T)


def shift_of(shift: Shift, grid: tuple[int, int, int] | None) -> float:
    """Return a shift as a number; `auto` is that of clips with this grid of tokens.

    Raises:
        ValueError: it is `auto`, and there is no grid.
    """
    if shift != "auto":
        return shift
    if grid is None:
        raise ValueError("shift is auto, which depends on the size of a clip; give its grid")
    return auto_shift(grid)


def logit_normal(num: int, config: TimestepConfig, generator: Generator) -> Tensor:
    """Draw t with a normal logit (arXiv 2403.03206, equation 19)."""
    return torch.sigmoid(config.mean + config.std * torch.randn(num, generator=generator))


def mode(num: int, config: TimestepConfig, generator: Generator) -> Tensor:
    """Draw 1 - u - s (cos^2(pi u / 2) - 1 + u), u uniform (arXiv 2403.03206, equation 20)."""
    u = torch.rand(num, generator=generator)
    return 1 - u - config.mode_scale * (torch.cos(math.pi / 2 * u).square() - 1 + u)


def cosmap(num: int, config: TimestepConfig, generator: Generator) -> Tensor:
    """Draw 1 - 1 / (tan(pi u / 2) + 1), u uniform (arXiv 2403.03206, equation 21)."""
    u = torch.rand(num, generator=generator)
    return 1 - 1 / (torch.tan(math.pi / 2 * u) + 1)


def uniform(num: int, config: TimestepConfig, generator: Generator) -> Tensor:
    """Draw uniform times."""
    return torch.rand(num, generator=generator)


DENSITIES: Mapping[str, Callable[[int, TimestepConfig, Generator], Tensor]] = {
    "cosmap": cosmap,
    "logit_normal": logit_normal,
    "mode": mode,
    "uniform": uniform,
}
"""Densities of training times by name, before the shift."""


def draw_times(
    num: int,
    config: TimestepConfig,
    *,
    generator: Generator,
    grid: tuple[int, int, int] | None = None,
) -> Tensor:
    """Draw training times, (num,) float32 in [0, 1], on the generator's device.

    Args:
        num: how many.
        config: their density.
        generator: where they come from.
        grid: tokens of a clip along frames, rows and columns; an automatic shift needs it.
    """
    t = DENSITIES[config.density](num, config, generator)
    return shift_times(t, shift_of(config.shift, grid))


def sampling_grid(steps: int, *, shift: float = 1.0) -> Tensor:
    """Return steps + 1 times from 1 (noise) to 0 (clean), float64.

    The grid of n steps is every second time of the grid of 2 n steps, at any shift.
    """
    return shift_times(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift)
