"""Progressive distillation: a student makes in one step what its teacher makes in two.

Salimans & Ho 2022, arXiv 2202.00512, algorithm 2, for velocities on the rectified flow: the teacher
takes two Euler steps from z_t by way of z_m to z_r, and the student's velocity is to be (z_t - z_r)
/ (t - r), the one whose single step lands there. The target is not the teacher's last prediction.

Every stage starts from the last one's student and halves the steps. The grids of all stages nest,
whatever the shift, because the midpoint is taken before the shift.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.paths import spread
from video_models.diffusion.timesteps import shift_times
from video_models.objectives.denoising import squared_error


@dataclass(frozen=True, kw_only=True)
class Interval:
    """One student step of each sample, and the teacher's stop half-way; all (B,)."""

    start: Tensor
    """The time t at which the step starts."""

    middle: Tensor
    """The time between."""

    end: Tensor
    """The time r at which it ends."""


def halving_stages(start: int, end: int) -> tuple[int, ...]:
    """Return the student's steps in each stage: `halving_stages(32, 4)` is (16, 8, 4).

    Raises:
        ValueError: `start` is not `end` times a power of two above 1.
    """
    ratio, rest = divmod(start, max(end, 1))
    if end < 1 or rest or ratio < 2 or ratio & (ratio - 1):
        raise ValueError(
            f"cannot halve {start} steps to {end}; start must be end times 2, 4, 8 and so on"
        )
    return tuple(end << power for power in reversed(range(ratio.bit_length() - 1)))


def student_interval(index: Tensor, steps: int, *, shift: float = 1.0) -> Interval:
    """Return the interval of a student's step.

    Args:
        index: which step of each sample, (B,) int in 0..steps-1, 0 starting from noise.
        steps: how many steps the student of this stage takes.
        shift: time shift of the sampling grid.
    """
    k = index.double()
    start, middle, end = (shift_times(1 - (k + part) / steps, shift) for part in (0, 0.5, 1))
    return Interval(start=start, middle=middle, end=end)


@torch.no_grad()
def halving_target(teacher: VelocityFunction, z: Tensor, interval: Interval) -> Tensor:
    """Return the velocity whose one step lands where two steps of the teacher do."""
    t, m, r = (time.to(z) for time in (interval.start, interval.middle, interval.end))
    z_m = z + spread(m - t, z) * teacher(z, t)
    z_r = z_m + spread(r - m, z) * teacher(z_m, m)
    return (z - z_r) / spread(t - r, z)


def halving_loss(
    student: VelocityFunction, teacher: VelocityFunction, z: Tensor, interval: Interval
) -> Tensor:
    """Return |v_student - target|^2 of each sample, (B,).

    Args:
        student: starts as a copy of the teacher.
        teacher: the last stage's student; guided only if guidance was not baked in before.
        z: latents at `interval.start`, (B, C, T, H, W).
        interval: the student's step.
    """
    target = halving_target(teacher, z, interval)
    return squared_error(student(z, interval.start.to(z)), target)
