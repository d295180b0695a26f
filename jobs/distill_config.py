"""How a student is distilled, as a recipe says it: the section `distill`."""

import dataclasses

from jobs.distill_stage import StageConfig
from video_models.diffusion.config import TimestepConfig
from video_platform.training.config import TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillSection:
    """From a guided teacher to a student of a few unguided steps."""

    out: str | None = None
    """The student's model folder; None is `<project>/student`."""

    teacher: str | None = None
    """The teacher's model folder; None is `model.out`."""

    guidance: TrainingConfig | None = None
    """The first stage: one network learns the guided velocity at the teacher's default scale."""

    progressive: TrainingConfig | None = None
    """Each later stage: a student learns two steps of its teacher in one."""

    steps: tuple[int, ...] = (16, 8, 4)
    """Student steps of each progressive stage; each half of the one before, the first half of
    the teacher's."""

    timesteps: TimestepConfig = TimestepConfig(density="uniform")
    """The density of times in the guidance stage."""

    stages: tuple[StageConfig, ...] = ()
    """Further stages by any method, each from the student of the one before."""

    def __post_init__(self) -> None:
        """Check that the stages halve."""
        for longer, shorter in zip(self.steps, self.steps[1:], strict=False):
            if longer != 2 * shorter:
                raise ValueError(f"steps = {self.steps!r}; each must be half of the one before")
