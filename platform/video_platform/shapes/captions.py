"""What a person would say about a clip."""

from collections.abc import Sequence

import numpy as np

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


def caption(combinations: Sequence[Combination], *, wording: int = 0) -> str:
    """Describe the objects of a clip in one sentence.

    Args:
        combinations: one for each object; objects that are all alike are counted.
        wording: 0 is the plain wording, 1 and 2 say the same in other words.
    """
    if len(combinations) > 1 and len(set(combinations)) == 1:
        first = combinations[0]
        subject = f"{_NUMBERS[len(combinations)]} {first.colour} {first.shape}{_plural(first)}"
        return f"{subject} {_verb(first.motion, wording, several=True)}"
    parts = [
        f"{_article(each.colour)} {each.colour} {each.shape} "
        f"{_verb(each.motion, wording, several=False)}"
        for each in combinations
    ]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def caption_of(config: WorldConfig, program: Program, index: int) -> str:
    """Describe clip `index` in the world's manner: half of the varied captions are plain too."""
    rng = np.random.default_rng((config.seed, index, 0xCA9))
    varied = config.captions == "varied" and rng.random() < 0.5
    return caption(
        program.combinations, wording=int(rng.integers(1, len(_MOVING))) if varied else 0
    )


def clip_at(config: WorldConfig, index: int, *, held_out: bool = False) -> tuple[Program, str]:
    """Return the program and the caption of clip `index`."""
    program = program_at(config, index, held_out=held_out)
    return program, caption_of(config, program, index)


def _article(word: str) -> str:
    return "an" if word.startswith(_ARTICLE_AN) else "a"


def _plural(combination: Combination) -> str:
    return "es" if combination.shape.endswith("s") else "s"


def _verb(motion: str, wording: int, *, several: bool) -> str:
    if motion == "still":
        return _STILL[wording][several]
    return _MOVING[wording][several].format(motion)
