"""Guidance distillation: a student that answers in one call what its teacher needs two for.

Meng et al. 2023, arXiv 2210.03142, section 3.1: the student learns v_u + w (v_c - v_u), for one
scale w or for a range of scales with w as an input.

The student must see states of *guided* trajectories: at high w they leave the region that noised
data covers, and a student trained on noised data alone falls short there. `guided_states` draws
such states; each step of the teacher's trajectory also gives the student's target there, so they
cost no more than targets on noised data.
"""

import torch
from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.samplers import sample_euler
from video_models.objectives.denoising import squared_error


def guidance_loss(
    student: VelocityFunction, teacher: VelocityFunction, x_t: Tensor, t: Tensor
) -> Tensor:
    """Return |v_student - v_teacher|^2 of each sample, (B,).

    Args:
        student: one call; told the scale if it takes one.
        teacher: guided, as `guided(...)` makes it.
        x_t: noisy latents, (B, C, T, H, W): noised data or `guided_states`.
        t: their times, (B,).
    """
    with torch.no_grad():
        target = teacher(x_t, t)
    return squared_error(student(x_t, t), target)


@torch.no_grad()
def guided_states(
    teacher: VelocityFunction, noise: Tensor, grid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Follow the guided teacher from noise and return what a student is to imitate on the way.

    Args:
        teacher: guided.
        noise: (B, ...).
        grid: falling times, N + 1.

    Returns:
        states (N, B, ...), their times (N, B) and the teacher's velocities (N, B, ...).
    """
    states: list[Tensor] = []
    times: list[Tensor] = []
    velocities: list[Tensor] = []

    def recorded(x: Tensor, t: Tensor) -> Tensor:
        v = teacher(x, t)
        states.append(x)
        times.append(t)
        velocities.append(v)
        return v

    sample_euler(recorded, noise, grid)
    return torch.stack(states), torch.stack(times), torch.stack(velocities)
