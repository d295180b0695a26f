"""Compare what a clip shows with what it should show."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from video_platform.shapes.detect import Detection
from video_platform.shapes.world import Combination

JUDGEMENTS = ("colour", "shape", "binding", "direction", "count", "exact")


def judge(detection: Detection, expected: Sequence[Combination]) -> dict[str, bool]:
    """Say what a clip got right; every answer is about the whole clip.

    Returns:
        `colour`, `shape`, `direction`: the right ones, each as often as asked, whichever object
        they belong to; `binding`: each colour on its own shape; `count`: as many objects as asked;
        `exact`: every object has its colour, shape and motion, and there is no other.
    """
    found = detection.combinations
    return {
        "colour": _same((each.colour for each in found), (each.colour for each in expected)),
        "shape": _same((each.shape for each in found), (each.shape for each in expected)),
        "binding": _same((each[:2] for each in found), (each[:2] for each in expected)),
        "direction": _same((each.motion for each in found), (each.motion for each in expected)),
        "count": len(found) == len(expected),
        "exact": _same(found, expected),
    }


def _same(found: Iterable[Hashable], expected: Iterable[Hashable]) -> bool:
    return Counter(found) == Counter(expected)
