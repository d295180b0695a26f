"""What a person would say about a clip."""

from collections.abc import Sequence

import numpy as np

from video_platform.shapes.expect import ATTRIBUTES, Asked, Expected, leave_out, truth_of
from video_platform.shapes.program import Program, program_at
from video_platform.shapes.world import Combination, WorldConfig

_NUMBERS = {2: "two", 3: "three", 4: "four"}
_ARTICLE_AN = ("a", "e", "i", "o", "u")

# (one object, several); the first is the plain wording.
_MOVING = (
    ("moves {}", "move {}"),
    ("is moving {}", "are moving {}"),
    ("goes {}", "go {}"),
)
_STILL = (
    ("stays still", "stay still"),
    ("is not moving", "are not moving"),
    ("stands still", "stand still"),
)


_PLACED = ("{} {} {}", "{} is {} {}", "there is {} {} {}")
_UNSAID = 0x5A1D


def caption(combinations: Sequence[Combination | Asked], *, wording: int = 0) -> str:
    """Describe the objects of a clip in one sentence.

    Args:
        combinations: one for each object; objects that are all alike are counted, and what is None
            is not spoken of ("a red shape moves left").
        wording: 0 is the plain wording, 1 and 2 say the same in other words.
    """
    if len(combinations) > 1 and len(set(combinations)) == 1:
        first = combinations[0]
        subject = f"{_NUMBERS[len(combinations)]} {_noun(first)}{_plural(first)}"
        return subject + _verb(first.motion, wording, several=True)
    parts = [
        f"{_with_article(each)}{_verb(each.motion, wording, several=False)}"
        for each in combinations
    ]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def describe(expected: Expected, *, wording: int = 0) -> str:
    """Say in one sentence what a clip must show."""
    if expected.text is not None:
        letters = " ".join(expected.text.lower())
        several = len(expected.text) > 1
        colour = f" in {expected.text_colour}" if expected.text_colour else ""
        verb = _verb(expected.text_motion, wording, several=several)
        return f"the letter{'s' if several else ''} {letters}{colour}{verb}"
    if expected.relation is not None:
        first, second = map(_with_article, expected.objects)
        return _PLACED[wording].format(first, expected.relation, second)
    return caption(expected.objects, wording=wording)


def said_of(config: WorldConfig, program: Program, index: int) -> Expected:
    """Return what the caption of clip `index` says: all that there is, or all but one thing."""
    truth = truth_of(program)
    if truth.relation is not None:
        return leave_out(truth, "motion")
    rng = np.random.default_rng((config.seed, index, _UNSAID))
    if rng.random() >= config.unsaid:
        return truth
    attributes = ATTRIBUTES if truth.text is None else ("colour", "motion")
    return leave_out(truth, attributes[rng.integers(len(attributes))])


def caption_of(config: WorldConfig, program: Program, index: int) -> str:
    """Describe clip `index` in the world's manner: half of the varied captions are plain too."""
    rng = np.random.default_rng((config.seed, index, 0xCA9))
    varied = config.captions == "varied" and rng.random() < 0.5
    return describe(
        said_of(config, program, index),
        wording=int(rng.integers(1, len(_MOVING))) if varied else 0,
    )


def clip_at(config: WorldConfig, index: int, *, held_out: bool = False) -> tuple[Program, str]:
    """Return the program and the caption of clip `index`."""
    program = program_at(config, index, held_out=held_out)
    return program, caption_of(config, program, index)


def _article(word: str) -> str:
    return "an" if word.startswith(_ARTICLE_AN) else "a"


def _noun(asked: Combination | Asked) -> str:
    return " ".join(word for word in (asked.colour, asked.shape or "shape") if word)


def _with_article(asked: Combination | Asked) -> str:
    noun = _noun(asked)
    return f"{_article(noun)} {noun}"


def _plural(asked: Combination | Asked) -> str:
    return "es" if _noun(asked).endswith("s") else "s"


def _verb(motion: str | None, wording: int, *, several: bool) -> str:
    if motion is None:
        return ""
    if motion == "still":
        return f" {_STILL[wording][several]}"
    return " " + _MOVING[wording][several].format(motion)
