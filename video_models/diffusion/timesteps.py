"""Times: how they are shifted, drawn for training and laid out for sampling.

A shift s moves times towards noise, t -> s t / (1 + (s - 1) t): videos of more tokens need more
noise for the same loss of information (Esser et al. 2024, arXiv 2403.03206, equation 23).
"""

import torch
from torch import Generator, Tensor

from video_models.diffusion.config import TimestepConfig


def shift_times(t: Tensor, shift: float) -> Tensor:
    """Return s t / (1 + (s - 1) t); 0 and 1 stay where they are."""
    return t / (t + (1 - t) / shift)  # written so that 1 stays 1 to the last bit


def unshift_times(t: Tensor, shift: float) -> Tensor:
    """Return the times that `shift_times` maps to t."""
    return shift_times(t, 1 / shift)


def draw_times(num: int, config: TimestepConfig, *, generator: Generator) -> Tensor:
    """Draw training times, (num,) float32 in (0, 1), on the generator's device."""
    if config.density == "uniform":
        t = torch.rand(num, generator=generator)
    else:
        t = torch.sigmoid(config.mean + config.std * torch.randn(num, generator=generator))
    return shift_times(t, config.shift)


def sampling_grid(steps: int, *, shift: float = 1.0) -> Tensor:
    """Return steps + 1 times from 1 (noise) to 0 (clean), float64.

    The grid of n steps is every second time of the grid of 2 n steps, at any shift.
    """
    return shift_times(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift)
