"""One stage of a distillation, as a recipe says it: an entry of `distill.stages`.

Importing this file needs nothing heavy, so that a recipe is checked at once.
"""

import dataclasses
from typing import Literal

from video_models.diffusion.config import TimestepConfig
from video_platform.training.config import TrainingConfig

Method = Literal[
    "consistency", "dmd", "guidance", "ladd", "moment_matching", "progressive", "rcm", "scm"
]
"""What the job can run of `video_models.distillation.methods.METHODS`; ADD, which also needs a
decoder's gradients and a vision network, is a loss without a stage."""

TWO_PLAYERS = ("dmd", "ladd", "moment_matching", "rcm")
"""Methods that train a second network besides."""

FORWARD_MODE = ("rcm", "scm")
"""Methods that take a derivative of the student in forward mode."""

SAMPLERS: dict[Method, str] = {
    "consistency": "euler",
    "dmd": "consistency",
    "guidance": "euler",
    "ladd": "consistency",
    "moment_matching": "ancestral",
    "progressive": "euler",
    "rcm": "consistency",
    "scm": "consistency",
}
"""How the student of a method is sampled: as it was trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondPlayer:
    """The second trained network of a stage; it is trained like the student but for this."""

    learning_rate: float | None = None
    """Peak learning rate; None for the student's."""

    betas: tuple[float, float] = (0.0, 0.999)
    """Decay of AdamW's moments; in a game the first one forgets at once."""

    turns: int | None = None
    """Updates of it for one of the student; None is the method's own: 5 for `dmd` and `rcm`, else
    1."""

    r1: float = 0.01
    """`ladd`: weight of the heads' penalty at real features."""

    blocks: tuple[int, ...] = ()
    """`ladd`: after which of the teacher's blocks the heads sit, from 0; empty spreads three."""

    def __post_init__(self) -> None:
        if self.turns is not None and self.turns < 1:
            raise ValueError(f"turns is {self.turns!r}; it must be at least 1")
        if self.r1 < 0:
            raise ValueError(f"r1 is {self.r1!r}; it must not be negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """A student, and how it is made from the stage before."""

    method: Method
    """How; see the table in `video_models.distillation.methods`."""

    training: TrainingConfig
    """How long, how fast. `training.steps` counts updates of the student and, where there is one,
    of the second network: with 5 turns a sixth of them is the student's."""

    steps: int | None = None
    """Steps that the student takes from noise to clip; None is what the teacher takes, for
    `guidance` alone."""

    intervals: int | None = None
    """`consistency`: steps of the teacher that the trajectory is cut into, a multiple of `steps`;
    None is what the teacher takes."""

    solver: Literal["euler", "heun"] = "euler"
    """`consistency`: how the teacher steps."""

    huber: float | None = None
    """`consistency`: scale of the pseudo-Huber distance, 0.00054 in the paper; None is the squared
    error."""

    timesteps: TimestepConfig = TimestepConfig(density="uniform")
    """The density of times: of the states in `guidance`, of the noise at which samples are compared
    in `dmd`, `ladd` and `rcm`."""

    angles: tuple[float, float] = (-1.0, 1.4)
    """`scm`, `rcm`: mean and deviation of the log of EDM's sigma that angles are drawn from."""

    tangent_warmup: int = 1000
    """`scm`, `rcm`: updates over which the unstable part of the tangent is let in."""

    dmd_weight: float = 1.0
    """`rcm`: weight of the distribution matching beside the consistency."""

    second: SecondPlayer = SecondPlayer()
    """The second network of a two-player method."""

    def __post_init__(self) -> None:
        if self.steps is None and self.method != "guidance":
            raise ValueError(f"method {self.method} needs steps, those that the student will take")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps is {self.steps!r}; it must be at least 1")
        if self.intervals is not None and self.intervals % (self.steps or 1):
            raise ValueError(
                f"intervals is {self.intervals!r}; it must be a multiple of steps, {self.steps!r}"
            )
        if self.method in FORWARD_MODE and self.training.zero_stage == 3:
            raise ValueError(
                f"method {self.method} takes a derivative in forward mode, which zero_stage 3 does "
                "not know; use zero_stage 0, 1 or 2"
            )
        if self.method in TWO_PLAYERS and self.training.zero_stage == 3:
            raise ValueError(
                f"method {self.method} sends gradients through one network to another, which "
                "zero_stage 3 does not allow; use zero_stage 0, 1 or 2"
            )

    @property
    def name(self) -> str:
        """What the stage is called."""
        return self.method if self.steps is None else f"{self.method}-{self.steps}"

    @property
    def turns(self) -> int:
        """Updates of the second network for one of the student."""
        given = self.second.turns
        return given if given is not None else 5 if self.method in ("dmd", "rcm") else 1

    @property
    def second_training(self) -> TrainingConfig:
        """How the second network is trained."""
        return dataclasses.replace(
            self.training,
            optimizer="adamw",
            learning_rate=self.second.learning_rate or self.training.learning_rate,
            betas=self.second.betas,
            ema_decay=None,
        )
