"""The table of distillation methods: what each one needs and costs."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the table."""

    module: str
    """Where its losses are."""

    step: Literal["trajectory", "two_player"]
    """`trajectory`: a student imitates a frozen teacher. `two_player`: a second trained network
    judges the student."""

    frozen: tuple[str, ...]
    """Networks that are held and not trained."""

    trained: tuple[str, ...]
    """Networks that are trained."""

    teacher_calls: int
    """Forward passes of a teacher for one training sample, without guidance."""

    doubled_by_guidance: bool
    """Whether a guided teacher takes twice as many."""

    paper: str
    """arXiv number."""

    summary: str
    """One line for a person."""


METHODS: dict[str, Method] = {
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
}
"""Methods by name."""
