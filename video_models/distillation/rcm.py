"""rCM: consistency in continuous time for coverage, distribution matching for sharpness.

Zheng et al. 2025, arXiv 2510.08431. sCM follows the teacher's trajectories and covers all its
modes, but loses fine detail on video at scale; the DMD term, which looks at the student's samples
as a whole, restores it. The tangent is warmed up with its own formula, its loss is summed in place
of averaged, and samples whose tangent is not finite count as 0.

Legend: as in `scm`.
"""

import torch
from torch import Tensor

from video_models.diffusion.paths import spread
from video_models.distillation.forward_mode import along
from video_models.distillation.scm import AngleFunction, normalised


@torch.no_grad()
def warmed_tangent(
    student: AngleFunction, teacher: AngleFunction, x: Tensor, angle: Tensor, *, warmup: float = 1.0
) -> Tensor:
    """Return g = -cos sqrt(1 - r^2 sin^2) (dx_S - dx_T) - r (cos sin x + cos sin d(dx_S)/dh).

    At r = 1 it is the tangent of sCM; at r = 0 it pulls to the teacher alone. The derivative is
    taken in forward mode.

    Args: see `video_models.distillation.scm.tangent`.
    """
    dx = teacher(x, angle)
    cos, sin = torch.cos(angle), torch.sin(angle)
    here, change = along(student, (x, angle), (spread(cos * sin, x) * dx, cos * sin))
    pull = cos * (1 - (warmup * sin).square()).sqrt()
    return -spread(pull, x) * (here - dx) - warmup * (spread(cos * sin, x) * x + change)


def rcm_loss(
    student: AngleFunction,
    teacher: AngleFunction,
    x: Tensor,
    angle: Tensor,
    *,
    warmup: float = 1.0,
    constant: float = 0.1,
) -> Tensor:
    """Return the consistency half, |F - sg(F) - g|^2 of each sample, (B,); add `dmd_loss` to it.

    Args:
        student: `scm.on_angles(network)`, sd = 1.
        teacher: the same of the frozen, guided teacher.
        x: noised latents, (B, ...), in float32 or wider.
        angle: (B,).
        warmup: r, from 0 to 1 in the first steps.
        constant: of the tangent's normalisation.
    """
    g = normalised(warmed_tangent(student, teacher, x, angle, warmup=warmup), constant=constant)
    fine = g.flatten(1).isfinite().all(dim=1)
    g = torch.where(spread(fine, x), g, torch.zeros_like(g))
    f = student(x, angle)
    return (f - f.detach() - g).flatten(1).square().sum(dim=1) * fine
