"""What each suite of the benchmark marks and measures, given what a clip shows and should show."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from video_platform.shapes.detect import DetectedObject
from video_platform.shapes.expect import ATTRIBUTES, Asked, Expected
from video_platform.shapes.follow import UNKNOWN
from video_platform.shapes.seen import Seen, relation_between

Mark = Callable[[Seen, Expected], bool]
Measure = Callable[[Seen, Expected], float | None]


def _matches(seen: Seen, expected: Expected, attributes: Sequence[str]) -> bool:
    """Say whether the objects can be paired so that each shows what was said of these attributes.

    Nothing is compared where nothing was said, and `unknown` is nothing that is ever said.
    """
    found = seen.detection.objects
    return len(found) == len(expected.objects) and any(
        all(
            getattr(asked, name) in (None, getattr(each, name))
            for each, asked in zip(order, expected.objects, strict=True)
            for name in attributes
        )
        for order in itertools.permutations(found)
    )


def _showing(*attributes: str) -> Mark:
    return lambda seen, expected: _matches(seen, expected, attributes)


_binding = _showing("colour", "shape")
_exact = _showing(*ATTRIBUTES)


def _count(seen: Seen, expected: Expected) -> bool:
    return seen.detection.count == len(expected.objects)


def _swapped(seen: Seen, expected: Expected) -> bool:
    """Say whether each colour sits on the other's shape."""
    first, second = expected.objects
    exchanged = (first._replace(shape=second.shape), second._replace(shape=first.shape))
    return _binding(seen, Expected(objects=exchanged))


def _blended(seen: Seen, expected: Expected) -> bool:
    """Say whether a colour or a shape is there that was not asked, or one that was is missing."""
    return any(
        Counter(getattr(each, name) for each in seen.detection.objects)
        != Counter(getattr(each, name) for each in expected.objects)
        for name in ("colour", "shape")
    )


def _relation(seen: Seen, expected: Expected) -> bool:
    """Say whether the two asked colours, each seen once, lie as asked."""
    pair = [_of_colour(seen, asked) for asked in expected.objects]
    if len(pair) != 2 or len(pair[0]) != 1 or len(pair[1]) != 1:
        return False
    return relation_between(pair[0][0], pair[1][0]) == expected.relation


def _of_colour(seen: Seen, asked: Asked) -> list[DetectedObject]:
    return [each for each in seen.detection.objects if each.colour == asked.colour]


MARKS: dict[str, dict[str, Mark]] = {
    "one object": {
        "colour": _showing("colour"),
        "shape": _showing("shape"),
        "binding": _binding,
        "count": _count,
        "exact": _exact,
    },
    "two objects": {
        "binding": _binding,
        "swapped": _swapped,
        "blended": _blended,
        "count": _count,
        "exact": _exact,
    },
    "counting": {"count": _count, "binding": _binding},
    "relation": {
        "relation": _relation,
        "binding": _binding,
        "exact": lambda seen, expected: _relation(seen, expected) and _exact(seen, expected),
    },
    "motion": {"direction": _showing("motion"), "exact": _exact},
    "text": {
        "string": lambda seen, expected: seen.spelling.letters == expected.text,
        "colour": lambda seen, expected: seen.spelling.colour == expected.text_colour,
    },
    "withheld": {"binding": _binding, "direction": _showing("motion"), "exact": _exact},
    "unsaid": {"said": _exact},
}
"""The questions of each suite that a clip answers with yes or no."""


def marks_of(seen: Seen, expected: Expected, suite: str) -> dict[str, bool]:
    """Say what a clip got right; the keys are those of the suite in `MARKS`."""
    return {name: mark(seen, expected) for name, mark in MARKS[suite].items()}


def _smoothness(seen: Seen, expected: Expected) -> float | None:
    """Return the distance (rms) from uniform motion as a share of the side: 0 is smooth."""
    unrest = [each.unrest for each in seen.detection.objects]
    return float(np.mean(unrest)) / seen.side if unrest else None


def _characters(seen: Seen, expected: Expected) -> float:
    """Return the share of the letters that are right."""
    return character_score(seen.spelling.letters, expected.text or "")


_OF_OBJECTS: Mapping[str, Measure] = {
    "smoothness": _smoothness,
    "identity": lambda seen, expected: seen.identity,
}
MEASURES: dict[str, Mapping[str, Measure]] = {
    **dict.fromkeys(MARKS, _OF_OBJECTS),
    "text": {"characters": _characters},
    "unsaid": {},
}
"""The questions of each suite that a clip answers with a number."""


def measures_of(seen: Seen, expected: Expected, suite: str) -> dict[str, float]:
    """Measure a clip; a number is left out where there is nothing to measure it on."""
    found = {name: measure(seen, expected) for name, measure in MEASURES[suite].items()}
    return {name: value for name, value in found.items() if value is not None}


def answers_of(seen: Seen) -> dict[str, str]:
    """Say what a clip of one object shows of each attribute, `unknown` where it shows no one."""
    objects = seen.detection.objects
    if len(objects) != 1:
        return dict.fromkeys(ATTRIBUTES, UNKNOWN)
    return {name: getattr(objects[0], name) for name in ATTRIBUTES}


def character_score(seen: str, asked: str) -> float:
    """Return the share of letters that are right, by place or, for other lengths, by edits."""
    longest = max(len(seen), len(asked))
    if not longest:
        return 1.0
    if len(seen) == len(asked):
        return sum(a == b for a, b in zip(seen, asked, strict=True)) / longest
    return 1 - _edits(seen, asked) / longest


def _edits(first: str, second: str) -> int:
    """Count the letters to insert, delete or exchange that turn one row into the other."""
    row = list(range(len(second) + 1))
    for number, letter in enumerate(first, start=1):
        before, row = row, [number]
        for place, other in enumerate(second, start=1):
            row.append(min(before[place] + 1, row[-1] + 1, before[place - 1] + (letter != other)))
    return row[-1]
