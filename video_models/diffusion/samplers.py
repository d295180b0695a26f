"""Samplers on the rectified flow: from noise to a sample along a grid of times.

All share one signature, `sampler(velocity, noise, grid, *, callback=None)`; a new one is a function
and a row in `SAMPLERS`.

Legend: x sample, v velocity, t time of a step's start, r of its end; times of a grid fall from 1 to
0.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.paths import ends

Callback = Callable[[int, float, Tensor], None]
"""Called after each step with its index, the time reached and the sample there."""


class Sampler(Protocol):
    """What every sampler is."""

    def __call__(
        self,
        velocity: VelocityFunction,
        noise: Tensor,
        grid: Tensor,
        *,
        callback: Callback | None = None,
    ) -> Tensor:
        """Return the sample at the last time of the grid.

        Args:
            velocity: the (guided) network.
            noise: the sample at the first time of the grid, (B, ...).
            grid: falling times, float64.
            callback: told of every step.
        """


def sample_euler(
    velocity: VelocityFunction, noise: Tensor, grid: Tensor, *, callback: Callback | None = None
) -> Tensor:
    """Follow the velocity in straight steps: first order, one call a step.

    On this path it is the same as DDIM.
    """
    x = noise
    for index, (t, r) in enumerate(_steps(grid)):
        x = x + (r - t) * velocity(x, _at(t, x))
        _tell(callback, index, r, x)
    return x


def sample_heun(
    velocity: VelocityFunction, noise: Tensor, grid: Tensor, *, callback: Callback | None = None
) -> Tensor:
    """Average the velocities at both ends of a step: second order, two calls.

    Karras et al. 2022, arXiv 2206.00364, algorithm 1. A step that ends at 0 is Euler's: no
    network was trained at exactly 0.
    """
    x = noise
    for index, (t, r) in enumerate(_steps(grid)):
        v = velocity(x, _at(t, x))
        ahead = x + (r - t) * v
        x = ahead if r == 0 else x + (r - t) / 2 * (v + velocity(ahead, _at(r, x)))
        _tell(callback, index, r, x)
    return x


def sample_dpm2m(
    velocity: VelocityFunction, noise: Tensor, grid: Tensor, *, callback: Callback | None = None
) -> Tensor:
    """Extrapolate the clean sample from this step and the last: second order, one call a step.

    DPM-Solver++(2M), Lu et al. 2022, arXiv 2211.01095, algorithm 2. With l = log(a / s) and
    h = l_r - l_t. The steps next to 1 and 0, where l is infinite, are first order, as is the very
    first.
    """
    x, before, h_before = noise, None, math.inf
    for index, (t, r) in enumerate(_steps(grid)):
        x0, _ = ends(velocity(x, _at(t, x)), x, _at(t, x), kind="v")
        h = _half_log_snr(r) - _half_log_snr(t)
        target = x0
        if before is not None and math.isfinite(h) and math.isfinite(h_before):
            target = x0 + h / (2 * h_before) * (x0 - before)
        # s_r / s_t x - a_r (e^-h - 1) target, written without h so that it holds at both ends.
        x = r / t * x + ((1 - r) - (1 - t) * r / t) * target
        before, h_before = x0, h
        _tell(callback, index, r, x)
    return x


SAMPLERS: dict[str, Sampler] = {
    "dpm++2m": sample_dpm2m,
    "euler": sample_euler,
    "heun": sample_heun,
}
"""Samplers by name."""


def _steps(grid: Tensor) -> list[tuple[float, float]]:
    return list(pairwise(grid.tolist()))


def _at(t: float, x: Tensor) -> Tensor:
    return x.new_full((len(x),), t)


def _half_log_snr(t: float) -> float:
    """Return log(a / s) of the rectified flow."""
    if t in (0.0, 1.0):
        return math.inf if t == 0 else -math.inf
    return math.log((1 - t) / t)


def _tell(callback: Callback | None, index: int, time: float, x: Tensor) -> None:
    if callback is not None:
        callback(index, time, x)
