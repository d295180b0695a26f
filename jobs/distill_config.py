"""How a student is distilled, as a recipe says it: the section `distill`."""

import dataclasses
from typing import Literal

from jobs.distill_stage import StageConfig, check_alone
from video_models.diffusion.config import TimestepConfig
from video_platform.training.config import TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillObserveConfig:
    """What is told of each stage besides its loss."""

    time_buckets: int = 10
    """Equal parts of [0, 1] whose losses are told apart, where a method draws times; 0 for none."""

    grad_norms: bool = True
    """Whether the gradient norm of each of the student's blocks is measured, before reports."""

    peak_tflops: float | Literal["measured"] | None = None
    """What one device can do at most; as in `pretrain.observe`."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.time_buckets <= 100:
            raise ValueError(f"time_buckets = {self.time_buckets!r}; it must be in [0, 100]")
        if isinstance(self.peak_tflops, float) and self.peak_tflops <= 0:
            raise ValueError(f"peak_tflops = {self.peak_tflops!r}; it must be above 0")


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
    """Further stages by any method; each student begins as the one before."""

    sample_prompts: tuple[str, ...] | None = None
    """Prompts that teacher and student are sampled at, with equal seeds, every
    `training.sample_every` steps of a stage and at its end; None takes those of `pretrain`."""

    observe: DistillObserveConfig = DistillObserveConfig()
    """What is told of each stage."""

    def __post_init__(self) -> None:
        """Check that the stages halve, and that none splits its clips over ranks."""
        for name in ("guidance", "progressive"):
            training: TrainingConfig | None = getattr(self, name)
            if training is not None:
                check_alone(training, f"distill.{name}")
        for longer, shorter in zip(self.steps, self.steps[1:], strict=False):
            if longer != 2 * shorter:
                raise ValueError(f"steps = {self.steps!r}; each must be half of the one before")
