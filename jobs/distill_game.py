"""Two networks that learn by turns: a student, and a second one that judges it.

Both read the same kind of micro-batches. Of each `turns + 1` updates the last is the student's and
the others are the second network's, the same on every rank.

Legend: B clips, x clean samples of the student.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jobs.distill_setting import Batch, Lesson, Setting
from jobs.distill_watch import Role, Watch
from video_models.diffusion.guidance import VelocityFunction
from video_models.distillation.consistency import jump
from video_models.distillation.dmd import simulated
from video_platform.training.draws import generator
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Scalars


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """The two sides of a method."""

    second: "Turn"
    """What the second network learns from a micro-batch."""
    student: "Turn"
    """What the student learns from one."""


@dataclasses.dataclass
class TwoPlayerStep:
    """One update of a student or of the network that judges it."""

    student: Engine
    second: Engine
    setting: Setting
    game: Game
    watch: Watch

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The two trained networks."""
        return {"student": self.student, "second": self.second}

    def update(self, micro_batches: Sequence[Batch], at: At) -> dict[str, Tensor]:
        """Let one of the two learn from each micro-batch and update once."""
        scalars, turns = Scalars(), self.setting.stage.turns
        students = at.step % (turns + 1) == turns
        engine, turn = (
            (self.student, self.game.student) if students else (self.second, self.game.second)
        )
        role: Role = "student" if students else "second"
        (self.second if students else self.student).last = None  # nothing of it is new
        for batch in micro_batches:
            lesson = turn(self, batch, at)
            engine.backward(lesson.losses.mean(), share=batch.share)
            self.watch.lesson(scalars, lesson, batch, role=role)
        self.watch.step(scalars, engine, at, role=role, turns=turns)
        return scalars.totals

    def velocity(self, module: nn.Module, batch: Batch) -> VelocityFunction:
        """Return a network under a batch's captions, without guidance."""
        return self.setting.velocity(module, self.setting.text(batch))

    def sample(self, batch: Batch, at: At) -> Tensor:
        """Return clean samples of the student, on its graph where gradients are on.

        Its earlier steps run from pure noise, without a graph; which step is trained is drawn for
        the whole batch.
        """
        setting, network = self.setting, self.velocity(self.student.module, batch)
        steps, index = setting.stage.steps or 1, self.sampled_step(at)
        noise, grid = setting.noise(batch, at), setting.grid(steps)
        x = simulated(network, noise, grid, index, lambda i: setting.noise(batch, at, "again", i))
        t = grid[index].float().expand(len(x)).to(x.device)
        return jump(network, x, t, torch.zeros_like(t))

    def sampled_step(self, at: At) -> int:
        """Return which of its steps the student is asked for in an update, 0 from pure noise."""
        draw = generator(at.seed, "step", at.step)
        return int(torch.randint(self.setting.stage.steps or 1, (1,), generator=draw))

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured so far; the engines hold everything else."""
        return self.watch.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.watch.load_state_dict(state)


Turn = Callable[[TwoPlayerStep, Batch, At], Lesson]
"""What a player learns from a micro-batch."""

AWAY = 0.02
"""How far times of noise stay from 0 and 1, where denoisers say nothing."""


def comparison(setting: Setting, batch: Batch, at: At) -> tuple[Tensor, Tensor]:
    """Return the noise and the times at which samples are compared."""
    noise = setting.noise(batch, at, "compare")
    return noise, setting.times(batch, at, "compare").clamp(AWAY, 1 - AWAY)
