"""One stage of a distillation, as a recipe says it: an entry of `distill.stages`.

Importing this file needs nothing heavy, so that a recipe is checked at once.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from video_models.diffusion.config import TimestepConfig
from video_platform.training.config import TrainingConfig

Method = Literal[
    "add", "consistency", "dmd", "guidance", "ladd", "moment_matching", "progressive", "rcm", "scm"
]
"""The rows of `video_models.distillation.methods.METHODS`."""

TWO_PLAYERS = ("add", "dmd", "ladd", "moment_matching", "rcm")
"""Methods that train a second network besides."""

HEADS_ALONE = ("add", "ladd")
"""Those whose second network is small heads alone."""

FORWARD_MODE = ("rcm", "scm")
"""Methods that take a derivative of the student in forward mode."""

FOLLOWERS = ("consistency", "guidance", "progressive")
"""Methods that imitate the steps of any teacher; all others ask it for the velocity at any time,
which a student of few steps does not know."""

FLOWS = ("guidance",)
"""Methods whose student knows the velocity at every time, as its teacher does."""

SAMPLERS: dict[Method, str] = {
    "add": "consistency",
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

    optimizer: Literal["adamw", "muon", "radam"] = "adamw"
    """As in `training.optimizer`; `muon` not for heads alone, which have no blocks."""

    betas: tuple[float, float] = (0.0, 0.999)
    """Decay of AdamW's moments; in a game the first one forgets at once."""

    turns: int | None = None
    """Updates of it for one of the student; None is the method's own: 5 for `dmd` and `rcm`, else
    1."""

    r1: float | None = None
    """Where there are heads: weight of their penalty at real features; None is the method's own,
    1e-5 for `add` and else 0.01."""

    blocks: tuple[int, ...] = ()
    """Where there are heads: after which of the teacher's blocks they sit, from 0; empty spreads
    three."""

    def __post_init__(self) -> None:
        if self.turns is not None and self.turns < 1:
            raise ValueError(f"turns is {self.turns!r}; it must be at least 1")
        if self.r1 is not None and self.r1 < 0:
            raise ValueError(f"r1 is {self.r1!r}; it must not be negative")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AddConfig:
    """What `add` looks at decoded frames with."""

    vision: str
    """Folder of a DINOv2 or CLIP network on this machine, as transformers saves it, with weights in
    safetensors."""

    blocks: tuple[int, ...] = ()
    """After which of its blocks heads sit, from 0; empty spreads four."""

    side: int | None = None
    """Frames are resized to a square of so many pixels before it; None is its own size."""

    frames: int | None = None
    """Frames that are decoded and judged of each clip, a window that moves with every update, which
    is decoded as a clip of its own; None for all. The decoder's activations of so many frames are
    held."""

    weight: float = 2.5
    """Of the teacher's pull beside the game."""

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"frames is {self.frames!r}; it must be at least 1, or null for all")
        if self.weight < 0:
            raise ValueError(f"weight is {self.weight!r}; it must be 0 or more")


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

    teacher: Literal["flow", "last"] | None = None
    """`last` is taught by the stage before, `flow` by the newest model that knows the velocity at
    every time: the first teacher, or the student of a `guidance` stage. The student begins as the
    stage before in either case, so that `consistency` may prepare a student for `dmd`. None is
    `last` for `consistency`, `guidance` and `progressive`, and `flow` for all others, whose teacher
    has to denoise at any time."""

    guidance: float | None = None
    """Scale of the teacher's guidance; None is the one that it is sampled at. Lower ones keep
    `dmd` from over-saturated clips."""

    jumps: Literal["edge", "end"] = "edge"
    """`consistency`: where the student jumps to. `edge`: to the end of its phase, one phase a step,
    and it is sampled without new noise. `end`: always to the clean clip, which is noised anew
    between steps; such a student may be sampled in any number of steps."""

    solver: Literal["euler", "heun"] = "euler"
    """`consistency`: how the teacher steps."""

    states: Literal["both", "data", "trajectories"] = "data"
    """`consistency`: where the teacher steps from: noised clips, states of its own guided
    trajectories, which at high scales leave what noised clips cover, or by turns both."""

    target_decay: float | None = None
    """`consistency`: decay of the average of the student's weights that its target is computed
    with, 0.95 in the paper; None takes the weights themselves."""

    huber: float | None = None
    """`consistency`: scale of the pseudo-Huber distance, 0.00054 in the paper; None is the squared
    error."""

    timesteps: TimestepConfig | None = None
    """The density of times: of the states in `guidance`, of the noise at which samples are compared
    in `dmd`, `ladd` and `rcm`. None is uniform with the shift that the teacher is sampled at."""

    angles: tuple[float, float] = (-1.0, 1.4)
    """`scm`, `rcm`: mean and deviation of the log of EDM's sigma that angles are drawn from."""

    tangent_warmup: int = 1000
    """`scm`, `rcm`: updates over which the unstable part of the tangent is let in."""

    gan_weight: float = 0.0
    """`dmd`, `rcm`: weight of the adversarial loss of heads on the frozen teacher's tokens, which
    see clips of the data; 0 trains no heads. 0.003 to 0.03 is usual."""

    dmd_weight: float = 1.0
    """`rcm`: weight of the distribution matching beside the consistency."""

    add: AddConfig | None = None
    """`add`: what looks at decoded frames."""

    second: SecondPlayer = SecondPlayer()
    """The second network of a two-player method."""

    def __post_init__(self) -> None:
        if self.steps is None and self.method != "guidance":
            raise ValueError(f"method {self.method} needs steps, those that the student will take")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps is {self.steps!r}; it must be at least 1")
        if self.jumps == "edge" and (self.intervals or 0) % (self.steps or 1):
            raise ValueError(
                f"intervals is {self.intervals!r}; it must be a multiple of steps, {self.steps!r}"
            )
        if self.target_decay is not None and not 0 <= self.target_decay < 1:
            raise ValueError(f"target_decay is {self.target_decay!r}; it must be in [0, 1) or null")
        if self.gan_weight < 0 or (self.gan_weight and self.method not in ("dmd", "rcm")):
            raise ValueError(
                f"gan_weight is {self.gan_weight!r}; it must be 0 or more, and 0 for method "
                f"{self.method}: it belongs to dmd and rcm"
            )
        if self.guidance is not None and self.guidance < 0:
            raise ValueError(f"guidance is {self.guidance!r}; it must be 0 or more")
        if (self.add is None) == (self.method == "add"):
            raise ValueError(
                f"method is {self.method} and add is {self.add!r}; method add needs add.vision, "
                "the folder of a vision network, and no other method takes add"
            )
        if self.method in HEADS_ALONE and self.second.optimizer == "muon":
            raise ValueError(
                f"second.optimizer is muon, but the heads of {self.method} have no blocks; use "
                "adamw or radam"
            )
        check_alone(self.training, f"method {self.method}")
        self._check_zero()

    def _check_zero(self) -> None:
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
        if self.target_decay is not None and self.training.zero_stage == 3:
            raise ValueError(
                "target_decay keeps a second whole network, which zero_stage 3 cuts up; use "
                "zero_stage 0, 1 or 2, or leave target_decay out"
            )

    @property
    def taught_by(self) -> Literal["flow", "last"]:
        """Which of the models so far is the teacher."""
        return self.teacher or ("last" if self.method in FOLLOWERS else "flow")

    @property
    def sampler(self) -> str:
        """How the student is sampled."""
        jumps_to_end = self.method == "consistency" and self.jumps == "end"
        return "consistency" if jumps_to_end else SAMPLERS[self.method]

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
    def penalty(self) -> float:
        """Weight of the heads' penalty at real features."""
        given = self.second.r1
        return given if given is not None else 1e-5 if self.method == "add" else 0.01

    @property
    def second_training(self) -> TrainingConfig:
        """How the second network is trained; heads by themselves have no blocks to recompute."""
        blocks: dict[str, Any] = {}
        if self.method in HEADS_ALONE:
            blocks = {
                "activation_checkpointing": False,
                "checkpoint_every_block": 1,
                "checkpoint_keeps": "inputs",
                "compile_blocks": False,
            }
        return dataclasses.replace(
            self.training,
            optimizer=self.second.optimizer,
            learning_rate=self.second.learning_rate or self.training.learning_rate,
            betas=self.second.betas,
            ema_decay=None,
            more_ema_decays=(),
            ema_widths=(),
            **blocks,
        )


def check_alone(training: TrainingConfig, what: str) -> None:
    """Refuse what distillation cannot do: split the tokens of a clip over ranks.

    Raises:
        ValueError: `training` asks for it; `what` is what was to be trained.
    """
    if training.sequence_parallel > 1:
        raise ValueError(
            f"{what}: training.sequence_parallel is {training.sequence_parallel!r}, but a student "
            "is distilled on whole clips; set it to 1 (activation_checkpointing, zero_stage and "
            "micro_batch_size save memory instead)"
        )


def lineage(stages: Sequence[StageConfig]) -> list[tuple[int, int]]:
    """Return of each stage who teaches, and what its student begins as.

    Models are numbered: 0 is the first teacher, n the student of the n-th stage.
    """
    found, flow, last = [], 0, 0
    for number, stage in enumerate(stages, start=1):
        found.append((last if stage.taught_by == "last" else flow, last))
        last = number
        if stage.method in FLOWS:
            flow = number
    return found
