"""Students that imitate a frozen teacher along its trajectories: one network is trained.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from jobs.distill_setting import Batch, Lesson, Setting
from jobs.distill_watch import Watch
from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.timesteps import sampling_grid, shift_times
from video_models.distillation.consistency import (
    Hop,
    consistency_target,
    hop,
    jump,
    landing,
    pseudo_huber,
    trajectory,
)
from video_models.distillation.guidance import guidance_loss, guided_states
from video_models.distillation.progressive import halving_loss, student_interval
from video_models.distillation.scm import draw_angles, noised_on_angles, on_angles, scm_loss
from video_models.objectives.denoising import squared_error
from video_models.text.batch import TextBatch
from video_platform.training.draws import generator
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Scalars

TRAJECTORY_STEPS = 8
"""Steps of a guided trajectory whose states are learned from."""


class Average:
    """A network that has the average of a student's weights, which gives the student its targets.

    Args:
        network: begins as the student.
        engine: of the student.
        kind: the average, by its name there.
    """

    def __init__(self, network: nn.Module, engine: Engine, kind: str) -> None:
        self.network, self._engine, self._kind = network.requires_grad_(False), engine, kind

    @torch.no_grad()
    def follow(self) -> None:
        """Take over the average as it is now. Collective."""
        with self._engine.computing_with(self._kind):
            pairs = zip(self.network.parameters(), self._engine.module.parameters(), strict=True)
            for mine, average in pairs:
                mine.copy_(average)


@dataclasses.dataclass
class TrajectoryStep:
    """One update of a student that imitates a frozen teacher."""

    engine: Engine
    setting: Setting
    watch: Watch
    average: Average | None = None
    """What gives the targets; None is the student itself."""

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The one trained network."""
        return {"student": self.engine}

    def update(self, micro_batches: Sequence[Batch], at: At) -> dict[str, Tensor]:
        """Imitate the teacher on each micro-batch and update once."""
        scalars = Scalars()
        lesson_of = TRAJECTORIES[self.setting.stage.method]
        for batch in micro_batches:
            lesson = lesson_of(self, batch, at)
            self.engine.backward(lesson.losses.mean(), share=batch.share)
            self.watch.lesson(scalars, lesson, batch, role="student")
        self.watch.step(scalars, self.engine, at)
        if self.average is not None:
            self.average.follow()
        return scalars.totals

    def student(self, text: TextBatch) -> VelocityFunction:
        """Return the student's velocity under a text."""
        return self.setting.velocity(self.engine.module, text)

    def target(self, text: TextBatch) -> VelocityFunction:
        """Return the velocity under a text that targets are computed with."""
        given = self.engine.module if self.average is None else self.average.network
        return self.setting.velocity(given, text)

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured so far; the engine holds the weights and their average."""
        return self.watch.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned; the engine was restored before."""
        self.watch.load_state_dict(state)
        if self.average is not None:
            self.average.follow()


Imitation = Callable[[TrajectoryStep, Batch, At], Lesson]
"""What a student learns from a micro-batch."""


def guidance(step: TrajectoryStep, batch: Batch, at: At) -> Lesson:
    """Learn the guided velocity, by turns on noised data and on guided trajectories."""
    setting, text = step.setting, step.setting.text(batch)
    if at.step % 2:
        return _on_trajectories(step, batch, at, text)
    t = setting.times(batch, at)
    x_t = setting.noised(batch, at, t)
    losses = guidance_loss(step.student(text), setting.guided_teacher(text), x_t, t)
    return Lesson(losses=losses, times=t, forwards=1 + setting.teacher_calls)


def _on_trajectories(step: TrajectoryStep, batch: Batch, at: At, text: TextBatch) -> Lesson:
    """Learn at the states of guided trajectories: few clips, each at several times."""
    setting = step.setting
    steps = min(TRAJECTORY_STEPS, len(text))
    clips = len(text) // steps
    noise = setting.noise(batch, at)[:clips]
    grid = sampling_grid(steps)
    inner = torch.rand(steps - 1, generator=generator(at.seed, "grid", at.step)).double() - 0.5
    grid[1:-1] += inner / steps
    grid = shift_times(grid, setting.shift)
    teacher = setting.guided_teacher(text[:clips])
    states, times, velocities = guided_states(teacher, noise, grid)
    rows = torch.arange(clips, device=setting.device).repeat(steps)
    student, t = step.student(text[rows]), times.flatten()
    losses = squared_error(student(states.flatten(0, 1), t), velocities.flatten(0, 1))
    return Lesson(losses=losses, times=t, forwards=1 + setting.teacher_calls)


def progressive(step: TrajectoryStep, batch: Batch, at: At) -> Lesson:
    """Learn two steps of the teacher in one, from noised data."""
    setting, text = step.setting, step.setting.text(batch)
    steps = setting.stage.steps or setting.steps
    interval = student_interval(setting.index(batch, at, steps), steps, shift=setting.shift)
    z = setting.noised(batch, at, interval.start)
    losses = halving_loss(step.student(text), setting.guided_teacher(text), z, interval)
    calls = 2 * setting.teacher_calls
    return Lesson(losses=losses, times=interval.start, forwards=1 + calls)


def consistency(step: TrajectoryStep, batch: Batch, at: At) -> Lesson:
    """Jump to the same place from both ends of a step of the teacher."""
    stage = step.setting.stage
    on_trajectories = stage.states == "trajectories" or (stage.states == "both" and at.step % 2)
    example = (_walked if on_trajectories else _noised)(step, batch, at)
    interval = example.interval
    distance = squared_error if stage.huber is None else partial(pseudo_huber, scale=stage.huber)
    landed = jump(step.student(example.text), example.x_t, interval.start, interval.edge)
    return Lesson(
        losses=distance(landed, example.goal), times=interval.start, forwards=2 + example.calls
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Example:
    """Steps of the teacher that a consistency student learns from."""

    text: TextBatch
    """The captions."""
    x_t: Tensor
    """Where the teacher stood."""
    interval: Hop
    """The times of its steps."""
    goal: Tensor
    """Where the student is to jump to."""
    calls: float
    """Forward passes of the teacher for one of them."""


def _noised(step: TrajectoryStep, batch: Batch, at: At) -> _Example:
    """Let the teacher step from noised clips."""
    setting, text = step.setting, step.setting.text(batch)
    grid, phases = _phases(setting)
    interval = hop(setting.index(batch, at, len(grid) - 1), grid, phases=phases)
    x_t = setting.noised(batch, at, interval.start)
    teacher, solver = setting.guided_teacher(text), setting.stage.solver
    goal = consistency_target(step.target(text), teacher, x_t, interval, solver=solver)
    calls = setting.teacher_calls * (2 if solver == "heun" else 1)
    return _Example(text=text, x_t=x_t, interval=interval, goal=goal, calls=calls)


def _walked(step: TrajectoryStep, batch: Batch, at: At) -> _Example:
    """Let the teacher walk from pure noise: few clips, each at several of its steps."""
    setting, text = step.setting, step.setting.text(batch)
    grid, phases = _phases(setting)
    count = min(TRAJECTORY_STEPS, len(grid) - 1, len(text))
    clips = len(text) // count
    noise = setting.noise(batch, at)[:clips]
    teacher, solver = setting.guided_teacher(text[:clips]), setting.stage.solver
    states = trajectory(teacher, noise, grid.to(noise), solver=solver)  # (N + 1, clips, ...)
    picks = [
        torch.randperm(len(grid) - 1, generator=generator(at.seed, "time", position))[:count]
        for position in batch.positions[:clips]
    ]
    index = torch.cat(picks).to(setting.device)
    rows = torch.arange(clips, device=setting.device).repeat_interleave(count)
    interval, text = hop(index, grid, phases=phases), text[rows]
    goal = landing(step.target(text), states[index + 1, rows], interval)
    calls = setting.teacher_calls * (2 if solver == "heun" else 1) * (len(grid) - 1) / count
    return _Example(text=text, x_t=states[index, rows], interval=interval, goal=goal, calls=calls)


def _phases(setting: Setting) -> tuple[Tensor, int]:
    """Return the times of the teacher's steps, and in how many phases they lie."""
    stage = setting.stage
    phases = 1 if stage.jumps == "end" else stage.steps or 1
    return setting.grid(stage.intervals or setting.steps), phases


def scm(step: TrajectoryStep, batch: Batch, at: At) -> Lesson:
    """Make the tangent of the student's consistency function vanish."""
    student, teacher, x, angle = angle_setting(step.setting, step.engine.module, batch, at)
    warmup = min(1.0, at.step / step.setting.stage.tangent_warmup)
    losses = scm_loss(student, teacher, x, angle, warmup=warmup)
    cos, sin = angle.cos(), angle.sin()
    calls = 2 + step.setting.teacher_calls  # a derivative in forward mode counts as two
    return Lesson(losses=losses, times=sin / (cos + sin), forwards=1 + calls)


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
    student = on_angles(setting.velocity(network, text))
    return student, on_angles(setting.guided_teacher(text)), x, angle


TRAJECTORIES: dict[str, Imitation] = {
    "consistency": consistency,
    "guidance": guidance,
    "progressive": progressive,
    "scm": scm,
}
"""What is learned, by the name of the method."""
