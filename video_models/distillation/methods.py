"""The table of distillation methods: what each one holds and costs."""

from dataclasses import dataclass
from typing import Literal

Held = Literal["teacher", "student", "target", "fake", "auxiliary", "heads", "decoder", "vision"]
"""`teacher` the frozen network, `target` an average of the student, `fake` and `auxiliary` second
networks of its size, `heads` small discriminators, `decoder` and `vision` what ADD looks with."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the table."""

    module: str
    """Where its losses are."""

    step: Literal["trajectory", "two_player"]
    """`trajectory`: a student imitates a frozen teacher. `two_player`: a second trained network
    judges the student."""

    frozen: tuple[Held, ...]
    """Networks that are held and not trained."""

    trained: tuple[Held, ...]
    """Networks that are trained, each with gradients and optimiser state."""

    teacher_calls: int
    """Forward passes of a teacher for one training sample, without guidance."""

    doubled_by_guidance: bool
    """Whether a guided teacher takes twice as many."""

    other_calls: float = 0
    """Further forward passes of networks of the teacher's size, without a graph: targets, second
    networks; a derivative in forward mode counts as two."""

    turns: int = 1
    """Updates of the second network for one of the student."""

    forward_mode: bool = False
    """Whether it takes a derivative of the student in forward mode: not under ZeRO 3, and with an
    attention that knows it."""

    paper: str
    """arXiv number."""

    summary: str
    """One line for a person."""

    @property
    def second(self) -> str | None:
        """The second trained network, where there is one."""
        return next((name for name in self.trained if name != "student"), None)


METHODS: dict[str, Method] = {
    "add": Method(
        module="video_models.distillation.add",
        step="two_player",
        frozen=("teacher", "decoder", "vision"),
        trained=("student", "heads"),
        teacher_calls=1,
        doubled_by_guidance=True,
        paper="2311.17042",
        summary="a frozen vision network judges decoded frames, the teacher pulls besides",
    ),
    "consistency": Method(
        module="video_models.distillation.consistency",
        step="trajectory",
        frozen=("teacher", "target"),
        trained=("student",),
        teacher_calls=1,
        doubled_by_guidance=True,
        other_calls=1,
        paper="2303.01469",
        summary="jumps from any point of a trajectory to its end, or to the edge of a phase",
    ),
    "dmd": Method(
        module="video_models.distillation.dmd",
        step="two_player",
        frozen=("teacher",),
        trained=("student", "fake"),
        teacher_calls=1,
        doubled_by_guidance=True,
        other_calls=1,
        turns=5,
        paper="2405.14867",
        summary="pushes samples from where the student puts too many to where too few are",
    ),
    "guidance": Method(
        module="video_models.distillation.guidance",
        step="trajectory",
        frozen=("teacher",),
        trained=("student",),
        teacher_calls=1,
        doubled_by_guidance=True,
        paper="2210.03142",
        summary="bakes classifier-free guidance in: one network call a step in place of two",
    ),
    "ladd": Method(
        module="video_models.distillation.ladd",
        step="two_player",
        frozen=("teacher",),
        trained=("student", "heads"),
        teacher_calls=3,
        doubled_by_guidance=False,
        paper="2403.12015",
        summary="heads on the frozen teacher's tokens judge noised latents",
    ),
    "moment_matching": Method(
        module="video_models.distillation.moment_matching",
        step="two_player",
        frozen=("teacher",),
        trained=("student", "auxiliary"),
        teacher_calls=2,
        doubled_by_guidance=True,
        other_calls=1,
        paper="2406.04103",
        summary="makes the student's samples, noised, denoise to where the teacher's do",
    ),
    "progressive": Method(
        module="video_models.distillation.progressive",
        step="trajectory",
        frozen=("teacher",),
        trained=("student",),
        teacher_calls=2,
        doubled_by_guidance=True,
        paper="2202.00512",
        summary="halves the number of steps, stage by stage",
    ),
    "rcm": Method(
        module="video_models.distillation.rcm",
        step="two_player",
        frozen=("teacher",),
        trained=("student", "fake"),
        teacher_calls=2,
        doubled_by_guidance=True,
        other_calls=3,
        turns=5,
        forward_mode=True,
        paper="2510.08431",
        summary="sCM for coverage and distribution matching for sharpness, together",
    ),
    "scm": Method(
        module="video_models.distillation.scm",
        step="trajectory",
        frozen=("teacher",),
        trained=("student",),
        teacher_calls=1,
        doubled_by_guidance=True,
        other_calls=2,
        forward_mode=True,
        paper="2410.11081",
        summary="consistency in continuous time, by one derivative in forward mode",
    ),
}
"""Methods by name."""
