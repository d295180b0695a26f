"""What a sampler is, and what all of them are written with.

Legend: x sample, t time of a step's start, r of its end; times of a grid fall from 1 to 0.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.paths import ends

Callback = Callable[[int, float, Tensor], None]
"""Called after each step with its index, the time reached and the sample there."""

Renoise = Callable[[int], Tensor]
"""Fresh standard normal noise of the samples' shape for the step of an index."""


class Sampler(Protocol):
    """What every sampler is."""

    def __call__(
        self,
        velocity: VelocityFunction,
        noise: Tensor,
        grid: Tensor,
        *,
        callback: Callback | None = None,
        renoise: Renoise | None = None,
    ) -> Tensor:
        """Return the sample at the last time of the grid.

        Args:
            velocity: the (guided) network.
            noise: the sample at the first time of the grid, (B, ...).
            grid: falling times, float64.
            callback: told of every step.
            renoise: where samplers that add noise on the way take it from; others leave it.
        """


def grid_steps(grid: Tensor) -> Iterator[tuple[int, float, float]]:
    """Yield index, start and end of each step of a grid."""
    for index, (t, r) in enumerate(pairwise(grid.tolist())):
        yield index, t, r


def at(t: float, x: Tensor) -> Tensor:
    """Return one time for all samples, (B,)."""
    return x.new_full((len(x),), t)


def denoised(velocity: VelocityFunction, x: Tensor, t: float) -> Tensor:
    """Return the clean sample that the network sees in x at time t."""
    x0, _ = ends(velocity(x, at(t, x)), x, at(t, x), kind="v")
    return x0


def half_log_snr(t: float) -> float:
    """Return l = log(a / s) of the rectified flow."""
    if t in (0.0, 1.0):
        return math.inf if t == 0 else -math.inf
    return math.log((1 - t) / t)


def tell(callback: Callback | None, index: int, time: float, x: Tensor) -> None:
    """Tell the callback of a step, if there is one."""
    if callback is not None:
        callback(index, time, x)
