"""Distribution matching: push samples from where the student puts too many to where too few are.

Yin et al. 2024, arXiv 2311.18828 and 2405.14867 (DMD2). The gradient at a clean sample x of the
student is the difference of two denoisers at its noised version, that of the student's own samples
and that of the teacher. The first is a network that is trained along (`fake`) by flow matching on
the student's samples, several times for each step of the student; it starts as the teacher.

A student of several steps is trained on what it will meet: `simulated` runs its earlier steps from
pure noise.

Legend: x clean samples of the student, (B, ...); t times (B,).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.paths import add_noise, convert, spread
from video_models.diffusion.sampler import Renoise
from video_models.diffusion.stochastic import sample_consistency


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Where the student's samples are to go, and how far both denoisers are from them."""

    direction: Tensor
    """(x_fake - x_T) / mean |x - x_T|, like x; the student goes against it."""

    to_teacher: Tensor
    """Mean |x - x_T| of each sample, (B,): falls as samples become likely to the teacher."""

    to_fake: Tensor
    """Mean |x - x_fake| of each sample, (B,): falls as the fake network learns them."""


@torch.no_grad()
def matching(
    fake: VelocityFunction, teacher: VelocityFunction, x: Tensor, noise: Tensor, t: Tensor
) -> Matching:
    """Compare what two networks make of the student's samples, noised.

    Equation 7 of DMD with its weight of equation 8; entries that are not finite become 0.

    Args:
        fake: denoises the student's samples; unguided.
        teacher: frozen, guided.
        x: the student's clean samples, in fp32 or wider.
        noise: standard normal, like x.
        t: times away from 0 and 1, (B,).
    """
    x_t = add_noise(x, noise, t)
    ours, theirs = (
        convert(network(x_t, t), x_t, t, source="v", target="x0") for network in (fake, teacher)
    )
    size = (x - theirs).flatten(1).abs().mean(dim=1).clamp_min(1e-8)
    direction = (ours - theirs) / spread(size, x)
    return Matching(
        direction=torch.nan_to_num(direction, posinf=0.0, neginf=0.0),
        to_teacher=size,
        to_fake=(x - ours).abs().flatten(1).mean(dim=1),
    )


def dmd_loss(x: Tensor, direction: Tensor) -> Tensor:
    """Return a loss (B,) whose gradient at x is the direction over a sample's entries.

    Args:
        x: the student's clean samples, with their graph.
        direction: of `matching`, at x.
    """
    goal = (x - direction).detach()
    return 0.5 * (x - goal).square().flatten(1).mean(dim=1)


@torch.no_grad()
def simulated(
    student: VelocityFunction, noise: Tensor, grid: Tensor, index: int, renoise: Renoise
) -> Tensor:
    """Return the student's own state before step `index`, sampled from pure noise (DMD2, 4.5).

    Args:
        student: jumps to clean samples; its earlier steps carry no gradient.
        noise: the sample at the first time of the grid, (B, ...).
        grid: the student's times, K + 1.
        index: the step that is about to be trained.
        renoise: fresh noise by step.
    """
    if index == 0:
        return noise
    return sample_consistency(student, noise, grid[: index + 1], renoise=renoise)
