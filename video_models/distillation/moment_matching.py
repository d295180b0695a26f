"""Moment matching: the student's samples, noised, must denoise to where the teacher denoises them.

Salimans et al. 2024, arXiv 2406.04103, algorithm 2 (alternating). The student makes x~ from z_t; x~
is noised to z_s through q(z_s | z_t, x~), the reverse of the noising; an auxiliary network learns
E[x~ | z_s]; the student moves against its difference from the teacher's E[x0 | z_s]. The two
networks are trained by turns, both start as the teacher.

All networks predict the velocity of the rectified flow.

Legend: z_t latents at t, s a lower time, x~ the student's clean samples; (B, ...) and (B,).
"""

import torch
from torch import Generator, Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.paths import convert
from video_models.diffusion.stochastic import posterior
from video_models.objectives.denoising import squared_error


def draw_pairs(num: int, steps: int, *, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw t in {1/K, ..., 1} and s = t - d with d uniform in (0, 1/K]; each (num,) float32.

    Args:
        num: samples.
        steps: K, the steps that the student will take.
        generator: of the draws.
    """
    t = torch.randint(1, steps + 1, (num,), generator=generator) / steps
    gap = (1 - torch.rand(num, generator=generator)) / steps
    return t, (t - gap).clamp_min(0)


def denoise(network: VelocityFunction, z: Tensor, t: Tensor) -> Tensor:
    """Return the clean sample that the network sees in z at t."""
    return convert(network(z, t), z, t, source="v", target="x0")


def noised_again(clean: Tensor, z_t: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
    """Draw z_s ~ q(z_s | z_t, x~); the step of DDIM in its place would hide what x~ adds."""
    mean, deviation = posterior(z_t, clean, t, s)
    return mean + deviation * noise


def auxiliary_loss(
    auxiliary: VelocityFunction,
    teacher: VelocityFunction,
    clean: Tensor,
    z_s: Tensor,
    s: Tensor,
) -> Tensor:
    """Return |x_aux - x~|^2 + |x_aux - x_T|^2 at z_s, (B,): the auxiliary network's turn.

    The second term keeps it near the teacher; at its optimum x_aux is half-way between E[x~ | z_s]
    and x_T.

    Args:
        auxiliary: trained.
        teacher: frozen, guided.
        clean: the student's samples; no gradient goes there.
        z_s: from `noised_again`; nor there.
        s: its times.
    """
    z_s = z_s.detach()
    with torch.no_grad():
        goal = denoise(teacher, z_s, s)
    seen = denoise(auxiliary, z_s, s)
    return squared_error(seen, clean.detach()) + squared_error(seen, goal)


def matching_loss(
    auxiliary: VelocityFunction,
    teacher: VelocityFunction,
    clean: Tensor,
    z_s: Tensor,
    s: Tensor,
) -> Tensor:
    """Return the mean of x~ sg[x_aux(z_s) - x_T(z_s)] of each sample, (B,): the student's turn.

    Its value means nothing, its gradient is that of the moments' difference; no gradient flows
    through the bracket.
    """
    with torch.no_grad():
        difference = denoise(auxiliary, z_s, s) - denoise(teacher, z_s, s)
    return (clean * difference).flatten(1).mean(dim=1)
