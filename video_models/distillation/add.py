"""Adversarial diffusion distillation (ADD): a frozen vision network judges decoded frames.

Sauer et al. 2023, arXiv 2311.17042. The student denoises in one jump from noised real clips; what
it makes is decoded and judged by heads on a frozen network's features, and denoised once more by
the teacher, to whose answer it is pulled:

    L = adversarial + lambda c(t) |x - sg x_T(a_t x + s_t e, t)|^2

Unlike `ladd` it needs the decoder and a vision network, and their gradients, in each step.

Legend: x the student's clean latents (B, ...), frames (B, C, T, H, W), t times (B,).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.paths import RECTIFIED_FLOW, add_noise, convert
from video_models.distillation.heads import Features, Grid, Heads, Judge, Verdict, tell_apart
from video_models.objectives.adversarial import generator_hinge
from video_models.objectives.denoising import squared_error

FrameFeatures = Callable[[Tensor], Features]
"""Frames to tokens (B, N, D) of a frozen network, after several of its blocks."""


def teacher_loss(teacher: VelocityFunction, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return c(t) |x - sg x_T(x_t, t)|^2 with c = a_t, (B,); equation 4, exponential weighting.

    Args:
        teacher: frozen, guided; sees the student's sample noised anew.
        x: the student's clean samples, with their graph.
        noise: standard normal, like x.
        t: (B,).
    """
    with torch.no_grad():
        x_t = add_noise(x, noise, t)
        goal = convert(teacher(x_t, t), x_t, t, source="v", target="x0")
    return RECTIFIED_FLOW.a(t) * squared_error(x, goal)


def discriminator_loss(
    heads: Heads,
    features: FrameFeatures,
    real: Tensor,
    fake: Tensor,
    *,
    grid: Grid,
    condition: Tensor | None = None,
    r1: float = 1e-5,
) -> Verdict:
    """Return the heads' side of the game: hinge, and R1 by the features of real frames.

    Args:
        heads: trained.
        features: frozen.
        real: frames of real clips.
        fake: decoded frames of the student; no gradient goes there.
        grid: of the tokens.
        condition: what the heads are told, (B, K).
        r1: weight of the penalty.
    """
    with torch.no_grad():
        tokens, others = features(real), features(fake)
    return tell_apart(heads, tokens, others, grid=grid, condition=condition, r1=r1)


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """The student's side of the game."""

    loss: Tensor
    """The game on frames and `weight` times the teacher's pull, (B,)."""

    score: Tensor
    """Mean logit of the student's frames, (B,), without gradient."""

    distance: Tensor
    """The teacher's pull by itself, (B,), without gradient."""


def student_loss(
    heads: Judge,
    features: FrameFeatures,
    teacher: VelocityFunction,
    x: Tensor,
    frames: Tensor,
    noise: Tensor,
    t: Tensor,
    *,
    grid: Grid,
    condition: Tensor | None = None,
    weight: float = 2.5,
) -> Pulled:
    """Return the student's side, the game on frames and `weight` times `teacher_loss`.

    Args:
        heads: its opponents.
        features: frozen; gradient flows through them.
        teacher: see `teacher_loss`.
        x: the student's clean latents, with their graph.
        frames: x decoded, with its graph.
        noise: see `teacher_loss`.
        t: see `teacher_loss`.
        grid: of the tokens.
        condition: (B, K).
        weight: lambda.
    """
    game = generator_hinge(heads(features(frames), grid, condition))
    pull = teacher_loss(teacher, x, noise, t)
    return Pulled(loss=game + weight * pull, score=-game.detach(), distance=pull.detach())
