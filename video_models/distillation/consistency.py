"""Consistency distillation: a student jumps from any point of a trajectory to its end.

Song et al. 2023, arXiv 2303.01469. On the rectified flow the student's jump from t to an edge is
x + (edge - t) v(x, t): at the edge it is x itself, to the last bit, and before training it is the
teacher's own prediction. Two points of one trajectory must jump to the same place:

    x_r = one step of the teacher from x_t,  loss = d( jump(student, x_t), jump(target, x_r) )

With one phase the edge is 0. With several (phased consistency, Wang et al. 2024, arXiv 2405.18407)
each phase has its own, and the student is sampled without new noise by `euler` from edge to edge.

What is learned is the teacher sampled by the same solver on the same grid, not the exact flow: the
target of Euler steps on N intervals is exactly the teacher in N Euler steps.

Without a teacher (consistency training) `straight(x0, noise)` takes its place: the two points then
lie on one line of noise.

Legend: x_t sample at t, r the next time, B samples.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.paths import spread, velocity
from video_models.objectives.denoising import squared_error

Solver = Literal["euler", "heun"]
Distance = Callable[[Tensor, Tensor], Tensor]
"""(a, b) -> distance of each sample, (B,)."""


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One interval of the teacher's grid for each sample; all (B,)."""

    start: Tensor
    """The time t at which the teacher's step starts."""

    end: Tensor
    """The time r at which it ends."""

    edge: Tensor
    """The end of the phase that both lie in."""


def hop(index: Tensor, grid: Tensor, *, phases: int = 1) -> Hop:
    """Return an interval of the grid for each sample.

    Args:
        index: which interval, (B,) int, 0 starting from noise.
        grid: falling times, N + 1.
        phases: parts that the grid is cut into.

    Raises:
        ValueError: N intervals cannot be cut into so many parts.
    """
    length, rest = divmod(len(grid) - 1, phases)
    if rest or not length:
        raise ValueError(f"{len(grid) - 1} intervals do not divide into {phases} phases")
    grid = grid.to(index.device)
    return Hop(start=grid[index], end=grid[index + 1], edge=grid[(index // length + 1) * length])


def jump(network: VelocityFunction, x: Tensor, t: Tensor, edge: Tensor) -> Tensor:
    """Return where the network says that the trajectory through x at t is at its edge."""
    t, edge = t.to(x), edge.to(x)
    return x + spread(edge - t, x) * network(x, t)


@torch.no_grad()
def solve(teacher: VelocityFunction, x: Tensor, step: Hop, *, solver: Solver) -> Tensor:
    """Return the sample after one step of the teacher, from `step.start` to `step.end`."""
    t, r = step.start.to(x), step.end.to(x)
    v = teacher(x, t)
    ahead = x + spread(r - t, x) * v
    if solver == "euler":
        return ahead
    # A step that ends at 0 stays Euler's: no network was trained at exactly 0.
    second = x + spread((r - t) / 2, x) * (v + teacher(ahead, r))
    return torch.where(spread(r > 0, x), second, ahead)


def trajectory(
    teacher: VelocityFunction, noise: Tensor, grid: Tensor, *, solver: Solver = "euler"
) -> Tensor:
    """Return the teacher's own states at all times of a grid, (N + 1, B, ...); the first is noise.

    The step between two of them is `solve`: what a student learns from, in place of noised clips,
    where guidance leads trajectories away from what noised clips cover.
    """
    states = [noise]
    for t, r in itertools.pairwise(grid):
        start, end = t.expand(len(noise)), r.expand(len(noise))
        step = Hop(start=start, end=end, edge=end)
        states.append(solve(teacher, states[-1], step, solver=solver))
    return torch.stack(states)


def consistency_target(
    target: VelocityFunction,
    teacher: VelocityFunction,
    x_t: Tensor,
    step: Hop,
    *,
    solver: Solver = "euler",
) -> Tensor:
    """Return where the student is to jump to from x_t; see `consistency_loss`."""
    return landing(target, solve(teacher, x_t, step, solver=solver), step)


@torch.no_grad()
def landing(target: VelocityFunction, x_r: Tensor, step: Hop) -> Tensor:
    """Return where the student is to jump to, the teacher's step having led to x_r."""
    return jump(target, x_r, step.end, step.edge)


def consistency_loss(
    student: VelocityFunction,
    target: VelocityFunction,
    teacher: VelocityFunction,
    x_t: Tensor,
    step: Hop,
    *,
    solver: Solver = "euler",
    distance: Distance = squared_error,
) -> Tensor:
    """Return the distance of the student's jump from its target, (B,).

    Args:
        student: starts as a copy of the teacher.
        target: the student itself or the average of its weights; gets no gradient. Both see the
            same dropout mask if there is any.
        teacher: guided, unless guidance was baked in before; or `straight(x0, noise)`.
        x_t: latents at `step.start`, (B, ...).
        step: the teacher's step.
        solver: how the teacher steps; `heun` takes two calls.
        distance: how far two clean samples are from each other.
    """
    goal = consistency_target(target, teacher, x_t, step, solver=solver)
    return distance(jump(student, x_t, step.start, step.edge), goal)


def pseudo_huber(a: Tensor, b: Tensor, *, scale: float = 0.00054) -> Tensor:
    """Return sqrt(|a - b|^2 + c^2) - c of each sample, c = scale sqrt(numel), over numel; (B,).

    Song & Dhariwal 2023, arXiv 2310.14189, section 3.3: it forgives single outliers.
    """
    dtype = torch.promote_types(a.dtype, torch.float32)
    difference = (a.to(dtype) - b.to(dtype)).flatten(1)
    numel = difference.shape[1]
    c = scale * math.sqrt(numel)
    return ((difference.square().sum(dim=1) + c * c).sqrt() - c) / numel


def straight(x0: Tensor, noise: Tensor) -> VelocityFunction:
    """Return the velocity of the lines from clean samples to their noise: no teacher is needed."""
    return lambda x, t: velocity(x0, noise, t)


def training_intervals(step: int, steps: int, *, first: int = 2, last: int = 150) -> int:
    """Return N(k), the intervals of consistency training at a step (the paper's appendix C)."""
    grown = step / steps * ((last + 1) ** 2 - first**2) + first**2
    return math.ceil(math.sqrt(grown) - 1) + 1


def target_decay(intervals: int, *, first: int = 2, decay: float = 0.95) -> float:
    """Return mu(k), the decay of the target's average at so many intervals (appendix C)."""
    return math.exp(first * math.log(decay) / intervals)
