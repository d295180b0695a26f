"""Students that imitate a frozen teacher along its trajectories: one network is trained.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from jobs.distill_setting import Batch, Setting
from video_models.diffusion.guidance import VelocityFunction, conditioned
from video_models.diffusion.timesteps import sampling_grid, shift_times
from video_models.distillation.consistency import consistency_loss, hop, pseudo_huber
from video_models.distillation.guidance import guidance_loss, guided_states
from video_models.distillation.progressive import halving_loss, student_interval
from video_models.distillation.scm import draw_angles, noised_on_angles, on_angles, scm_loss
from video_models.objectives.denoising import squared_error
from video_models.text.batch import TextBatch
from video_platform.training.draws import generator
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Scalars, Stateless

TRAJECTORY_STEPS = 8
"""Steps of a guided trajectory whose states the guidance stage learns from."""

Loss = Callable[[Setting, Engine, Batch, At], Tensor]
"""Of each sample of a batch, (B,)."""


@dataclasses.dataclass
class TrajectoryStep(Stateless):
    """One update of a student that imitates a frozen teacher."""

    engine: Engine
    setting: Setting

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The one trained network."""
        return {"student": self.engine}

    def update(self, micro_batches: Sequence[Batch], at: At) -> dict[str, Tensor]:
        """Imitate the teacher on each micro-batch and update once."""
        scalars = Scalars()
        loss_of = TRAJECTORIES[self.setting.stage.method]
        for batch in micro_batches:
            loss = loss_of(self.setting, self.engine, batch, at).mean()
            self.engine.backward(loss, share=batch.share)
            scalars.add({"loss": loss}, share=batch.share)
        self.engine.step()
        return scalars.totals


def guidance(setting: Setting, engine: Engine, batch: Batch, at: At) -> Tensor:
    """Learn the guided velocity, by turns on noised data and on guided trajectories."""
    text = setting.text(batch)
    if at.step % 2:
        return _on_trajectories(setting, engine, batch, at, text)
    t = setting.times(batch, at)
    student = conditioned(engine.module, text)
    return guidance_loss(student, setting.guided_teacher(text), setting.noised(batch, at, t), t)


def _on_trajectories(
    setting: Setting, engine: Engine, batch: Batch, at: At, text: TextBatch
) -> Tensor:
    """Learn at the states of guided trajectories: few clips, each at several times."""
    steps = min(TRAJECTORY_STEPS, len(text))
    clips = len(text) // steps
    noise = setting.noise(batch, at)[:clips].to(setting.dtype)
    grid = sampling_grid(steps)
    inner = torch.rand(steps - 1, generator=generator(at.seed, "grid", at.step)).double() - 0.5
    grid[1:-1] += inner / steps
    grid = shift_times(grid, setting.shift)
    teacher = setting.guided_teacher(text[:clips])
    states, times, velocities = guided_states(teacher, noise, grid)
    rows = torch.arange(clips, device=setting.device).repeat(steps)
    student = conditioned(engine.module, text[rows])
    return squared_error(student(states.flatten(0, 1), times.flatten()), velocities.flatten(0, 1))


def progressive(setting: Setting, engine: Engine, batch: Batch, at: At) -> Tensor:
    """Learn two steps of the teacher in one, from noised data."""
    steps = setting.stage.steps or setting.steps
    interval = student_interval(setting.index(batch, at, steps), steps, shift=setting.shift)
    text, z = setting.text(batch), setting.noised(batch, at, interval.start)
    return halving_loss(conditioned(engine.module, text), setting.guided_teacher(text), z, interval)


def consistency(setting: Setting, engine: Engine, batch: Batch, at: At) -> Tensor:
    """Jump to the edge of a phase from both ends of a step of the teacher.

    The student takes a step a phase; the target is the student itself, without gradient.
    """
    stage = setting.stage
    intervals = stage.intervals or setting.steps
    index = setting.index(batch, at, intervals)
    step = hop(index, setting.grid(intervals), phases=stage.steps or 1)
    text, x_t = setting.text(batch), setting.noised(batch, at, step.start)
    student = conditioned(engine.module, text)
    distance = squared_error if stage.huber is None else partial(pseudo_huber, scale=stage.huber)
    return consistency_loss(
        student, student, setting.guided_teacher(text), x_t, step,
        solver=stage.solver, distance=distance,
    )  # fmt: skip


def scm(setting: Setting, engine: Engine, batch: Batch, at: At) -> Tensor:
    """Make the tangent of the student's consistency function vanish."""
    student, teacher, x, angle = angle_setting(setting, engine.module, batch, at)
    return scm_loss(
        student, teacher, x, angle, warmup=min(1.0, at.step / setting.stage.tangent_warmup)
    )


def angle_setting(
    setting: Setting, network: torch.nn.Module, batch: Batch, at: At
) -> tuple[VelocityFunction, VelocityFunction, Tensor, Tensor]:
    """Return student and teacher on angles, and noised latents at drawn ones, in float32."""
    mean, std = setting.stage.angles
    draws = [
        draw_angles(1, mean=mean, std=std, generator=generator(at.seed, "time", position))
        for position in batch.positions
    ]
    angle, text = torch.cat(draws).to(setting.device), setting.text(batch)
    x = noised_on_angles(setting.clean(batch, at), setting.noise(batch, at), angle)
    student = on_angles(conditioned(network, text))
    return student, on_angles(setting.guided_teacher(text)), x, angle


TRAJECTORIES: dict[str, Loss] = {
    "consistency": consistency,
    "guidance": guidance,
    "progressive": progressive,
    "scm": scm,
}
"""Losses by the name of their method."""
