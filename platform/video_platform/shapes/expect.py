"""What a caption asks of a clip, down to what it leaves open."""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

from video_platform.shapes.program import Program


class Asked(NamedTuple):
    """What is asked of one object; None is left open."""

    colour: str | None = None
    shape: str | None = None
    motion: str | None = None


ATTRIBUTES = Asked._fields


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a clip must show: objects, or a row of letters, and nothing else."""

    objects: tuple[Asked, ...] = ()
    """One for each object; none where there are letters."""
    relation: str | None = None
    """Where the first object is, seen from the second: a key of `RELATIONS`."""
    text: str | None = None
    """The letters, upper case, from left to right."""
    text_colour: str | None = None
    """Their colour."""
    text_motion: str | None = None
    """Their motion."""


def truth_of(program: Program) -> Expected:
    """Return everything that a caption can say about a program."""
    if program.text is not None:
        return Expected(
            text=program.text.letters,
            text_colour=program.text.colour,
            text_motion=program.text.motion,
        )
    return Expected(
        objects=tuple(Asked(*each) for each in program.combinations), relation=program.relation
    )


def leave_out(expected: Expected, attribute: str) -> Expected:
    """Ask no more for one of the `ATTRIBUTES`, of every object or of the letters."""
    return dataclasses.replace(
        expected,
        objects=tuple(each._replace(**{attribute: None}) for each in expected.objects),
        text_colour=None if attribute == "colour" else expected.text_colour,
        text_motion=None if attribute == "motion" else expected.text_motion,
    )
