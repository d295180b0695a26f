"""Latent adversarial distillation (LADD): the frozen teacher's own tokens judge the student.

Sauer et al. 2024, arXiv 2403.12015. The student denoises in one jump from one of a few times; its
sample and a real one (the teacher's own samples) are noised to a random time, go through the frozen
teacher, and heads on the tokens after chosen blocks tell them apart. The gradient for the student
flows through the frozen teacher: its weights want no gradient, its inputs do.

Legend: x clean samples (B, ...), t noise times (B,); tokens (B, N, D) on a grid.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from video_models.diffusion.paths import add_noise
from video_models.distillation.heads import Features, Grid, Heads, Judge, Verdict, tell_apart
from video_models.objectives.adversarial import generator_hinge

FeatureFunction = Callable[[Tensor, Tensor], Features]
"""(x_t, t) -> tokens of the frozen teacher after its chosen blocks."""


def draw_student_times(
    num: int, times: Sequence[float], weights: Sequence[float], *, generator: Generator
) -> Tensor:
    """Draw the times that the student jumps from, (num,) float32.

    Args:
        num: samples.
        times: of the student's steps, such as 1, 0.75, 0.5, 0.25.
        weights: how often each comes, of any sum.
        generator: of the draws.
    """
    chosen = torch.multinomial(torch.tensor(weights), num, replacement=True, generator=generator)
    return torch.tensor(times)[chosen]


def judge(
    heads: Judge,
    features: FeatureFunction,
    x: Tensor,
    noise: Tensor,
    t: Tensor,
    *,
    grid: Grid,
    condition: Tensor | None = None,
) -> Tensor:
    """Return the heads' logits (B, heads x N) of clean samples, noised to t.

    Args:
        heads: trained by the discriminator's turn.
        features: of the frozen teacher, never under `no_grad`.
        x: clean samples.
        noise: standard normal, like x.
        t: (B,); large times judge structure, small ones texture.
        grid: of the tokens.
        condition: what the heads are told, (B, K).
    """
    return heads(features(add_noise(x, noise, t), t), grid, condition)


def discriminator_loss(
    heads: Heads,
    features: FeatureFunction,
    real: Tensor,
    fake: Tensor,
    noise: Tensor,
    t: Tensor,
    *,
    grid: Grid,
    condition: Tensor | None = None,
    r1: float = 0.0,
) -> Verdict:
    """Return the heads' side of the game, hinge and R1.

    Args:
        heads: trained.
        features: of the frozen teacher.
        real: clean samples, of the data or of the teacher.
        fake: the student's clean samples; no gradient goes there.
        noise: the same for both.
        t: the same for both, (B,).
        grid: of the tokens.
        condition: (B, K).
        r1: weight of the penalty at the real samples' features.
    """
    with torch.no_grad():
        tokens, others = (features(add_noise(x, noise, t), t) for x in (real, fake))
    return tell_apart(heads, tokens, others, grid=grid, condition=condition, r1=r1)


def student_loss(
    heads: Judge,
    features: FeatureFunction,
    fake: Tensor,
    noise: Tensor,
    t: Tensor,
    *,
    grid: Grid,
    condition: Tensor | None = None,
) -> Tensor:
    """Return the student's side of the game, (B,); see `judge`. `fake` carries its graph."""
    return generator_hinge(judge(heads, features, fake, noise, t, grid=grid, condition=condition))
