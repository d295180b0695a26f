"""Samplers on the rectified flow: from noise to a sample along a grid of times.

All share one signature, see `video_models.diffusion.sampler`; a new one is a function and a row in
`SAMPLERS`.

Legend: x sample, v velocity, t time of a step's start, r of its end.
"""

from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.multistep import sample_dpm2m, sample_unipc
from video_models.diffusion.sampler import Callback, Renoise, Sampler, at, grid_steps, tell
from video_models.diffusion.stochastic import sample_ancestral, sample_consistency


def sample_euler(
    velocity: VelocityFunction,
    noise: Tensor,
    grid: Tensor,
    *,
    callback: Callback | None = None,
    renoise: Renoise | None = None,
) -> Tensor:
    """Follow the velocity in straight steps: first order, one call a step.

    On this path it is the same as DDIM.
    """
    x = noise
    for index, t, r in grid_steps(grid):
        x = x + (r - t) * velocity(x, at(t, x))
        tell(callback, index, r, x)
    return x


def sample_heun(
    velocity: VelocityFunction,
    noise: Tensor,
    grid: Tensor,
    *,
    callback: Callback | None = None,
    renoise: Renoise | None = None,
) -> Tensor:
    """Average the velocities at both ends of a step: second order, two calls.

    Karras et al. 2022, arXiv 2206.00364, algorithm 1. A step that ends at 0 is Euler's: no
    network was trained at exactly 0.
    """
    x = noise
    for index, t, r in grid_steps(grid):
        v = velocity(x, at(t, x))
        ahead = x + (r - t) * v
        x = ahead if r == 0 else x + (r - t) / 2 * (v + velocity(ahead, at(r, x)))
        tell(callback, index, r, x)
    return x


SAMPLERS: dict[str, Sampler] = {
    "ancestral": sample_ancestral,
    "consistency": sample_consistency,
    "dpm++2m": sample_dpm2m,
    "euler": sample_euler,
    "heun": sample_heun,
    "unipc": sample_unipc,
}
"""Samplers by name."""
