"""Samplers that add fresh noise on the way.

Legend: x sample, e fresh noise, t time of a step's start, r of its end.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.noise import step_noise
from video_models.diffusion.paths import add_noise, spread
from video_models.diffusion.sampler import Callback, Renoise, at, denoised, grid_steps, tell


def posterior(x_t: Tensor, x0: Tensor, t: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of q(x_r | x_t, x0) on the rectified flow, r < t.

    With a = (1 - t) / (1 - r) and V = t^2 - a^2 r^2: mean = a r^2 / t^2 x_t + (1 - r) V / t^2 x0,
    variance = V r^2 / t^2. If x_t is x0 with noise, then so is x_r.

    Args:
        x_t: noisy samples, (B, ...).
        x0: clean samples, like x_t.
        t: their times, (B,), above 0.
        r: times (B,) to go to.

    Returns:
        the mean, like x_t, and the deviation, shaped to multiply it.
    """
    t, r = spread(t, x_t), spread(r, x_t)
    a = (1 - t) / (1 - r)
    share = (r / t).square()
    gained = 1 - a.square() * share
    return a * share * x_t + (1 - r) * gained * x0, r * gained.clamp_min(0).sqrt()


def sample_ancestral(
    velocity: VelocityFunction,
    noise: Tensor,
    grid: Tensor,
    *,
    callback: Callback | None = None,
    renoise: Renoise | None = None,
) -> Tensor:
    """Draw each x_r from q(x_r | x_t, x0): the reverse of the noising, one call a step.

    Ho et al. 2020, arXiv 2006.11239, equation 6, on the rectified flow: DDIM with eta = 1.

    Raises:
        ValueError: no `renoise` is given.
    """
    fresh, x = _needed(renoise), noise
    for index, t, r in grid_steps(grid):
        mean, deviation = posterior(x, denoised(velocity, x, t), at(t, x), at(r, x))
        x = mean if r == 0 else mean + deviation * fresh(index).to(x)
        tell(callback, index, r, x)
    return x


def sample_consistency(
    velocity: VelocityFunction,
    noise: Tensor,
    grid: Tensor,
    *,
    callback: Callback | None = None,
    renoise: Renoise | None = None,
) -> Tensor:
    """Jump to the clean sample and noise it anew, step by step, for networks that can jump.

    Song et al. 2023, arXiv 2303.01469, algorithm 1. A phased student, which jumps to the edge of
    its phase, is sampled by `euler` on the grid of the edges instead (Wang et al. 2024, arXiv
    2405.18407): no noise is added.

    Raises:
        ValueError: no `renoise` is given.
    """
    fresh, x = _needed(renoise), noise
    for index, t, r in grid_steps(grid):
        x = denoised(velocity, x, t)
        if r > 0:
            x = add_noise(x, fresh(index).to(x), at(r, x))
        tell(callback, index, r, x)
    return x


def _needed(renoise: Renoise | None) -> Renoise:
    if renoise is None:
        raise ValueError("this sampler adds noise on the way; give it renoise, or use euler")
    return renoise


def noise_of(seeds: Sequence[int], shape: Sequence[int]) -> Renoise:
    """Return fresh noise that depends on each sample's seed and the step alone.

    Args:
        seeds: one a sample.
        shape: of one sample, (C, T, H, W).
    """
    return lambda index: torch.stack([step_noise(seed, index, shape) for seed in seeds])
