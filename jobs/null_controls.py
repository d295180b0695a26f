"""What the judge says when what was asked is taken away: scores that mean something fall to chance.

    shuffled captions   each clip against the next prompt of a cycle through its suite
    reversed time       the frames backwards: left becomes right
    shuffled frames     the frames in another order: nothing moves evenly any more

Here one clip is looked at; `jobs/null_control_results.py` says what came of all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.evaluation_bench import Examined, Frames

SHUFFLED_CAPTIONS, REVERSED, SHUFFLED_FRAMES = (
    "shuffled captions",
    "reversed time",
    "shuffled frames",
)
CONTROLS = (SHUFFLED_CAPTIONS, REVERSED, SHUFFLED_FRAMES)
ORDERS = 64
"""Orders of frames that one is chosen from."""
CHANCE = "chance"
"""The share of the other prompts that a clip answers."""
STILL = "asked for no motion"
"""What is right about a clip whose prompt asks for no motion."""
MOTION_MARKS = ("direction", "exact", "said")
"""Marks that ask for a motion, where the prompt does."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a clip should show, and what the other prompts of its suite ask for."""

    suite: str
    """The suite."""
    asked: tuple[Any, ...]
    """What each prompt of the suite asks for."""
    place: int
    """Which of them is the clip's own."""
    partner: int
    """Which one it is given when captions are shuffled; its own where the suite has no other."""
    moving: tuple[bool, ...]
    """Which of them ask for a motion."""

    @property
    def expected(self) -> Any:
        """What the clip should show."""
        return self.asked[self.place]


@dataclass(frozen=True, kw_only=True)
class Eye:
    """How clips are looked at; reading is slow and comparing is fast."""

    read: Callable[[Frames, str], Any]
    """Sees what is in a clip that a suite asked for."""
    marks: Callable[[Any, Any, str], Mapping[str, bool]]
    """Compares what was seen with what a prompt of a suite asks for."""
    measures: Callable[[Any, Any, str], Mapping[str, float]]
    """The same for numbers."""
    answers: Callable[[Any, str], Mapping[str, str]]
    """Says what is seen where a prompt of a suite leaves something open."""


def cases_of(suite: str, asked: Sequence[Any], moving: Sequence[bool], *, seed: int) -> list[Case]:
    """Return a case for each prompt of a suite."""
    partners = derangement(len(asked), seed=seed)
    return [
        Case(suite=suite, asked=tuple(asked), place=place, partner=partner, moving=tuple(moving))
        for place, partner in enumerate(partners)
    ]


def derangement(count: int, *, seed: int) -> list[int]:
    """Draw a cycle through all of `count` places (Sattolo 1986): no place keeps its own.

    Each place is led to each other one with equal probability, which makes the mean over all others
    exactly what is to be expected. One place alone keeps its own.
    """
    rng = np.random.default_rng((seed, count))
    places = list(range(count))
    for last in range(count - 1, 0, -1):
        other = int(rng.integers(last))
        places[last], places[other] = places[other], places[last]
    return places


def frame_order(count: int, *, seed: int) -> list[int]:
    """Draw an order of frames that runs in no direction; two frames have no other order.

    Of many orders it is the one that keeps least of the passing of time: by luck alone some orders
    run slightly forwards, and what moves little would still be seen to move that way.
    """
    if count < 3:
        return list(range(count))
    rng = np.random.default_rng((seed, count))
    orders = rng.permuted(np.tile(np.arange(count), (ORDERS, 1)), axis=1)
    time = np.arange(count) - (count - 1) / 2
    best: list[int] = orders[int(np.abs(orders @ time).argmin())].tolist()
    return best


def examined(eye: Eye, frames: Frames, case: Case) -> Examined:
    """Look at a clip, and again without what its prompt asked for."""
    seen = eye.read(frames, case.suite)
    marks = eye.marks(seen, case.expected, case.suite)
    return Examined(
        marks=marks,
        measures=eye.measures(seen, case.expected, case.suite),
        answers=eye.answers(seen, case.suite),
        controls=_captions(eye, seen, case) | _time(eye, frames, marks, case),
    )


def _captions(eye: Eye, seen: Any, case: Case) -> dict[str, Mapping[str, float]]:
    others = [each for place, each in enumerate(case.asked) if place != case.place]
    if not others:
        return {}
    answered = [eye.marks(seen, other, case.suite) for other in others]
    return {
        SHUFFLED_CAPTIONS: {
            name: float(right)
            for name, right in eye.marks(seen, case.asked[case.partner], case.suite).items()
        },
        CHANCE: {name: float(np.mean([each[name] for each in answered])) for name in answered[0]},
    }


def _time(
    eye: Eye, frames: Frames, marks: Mapping[str, bool], case: Case
) -> dict[str, Mapping[str, float]]:
    """Look at the frames backwards and in another order, in suites that ask for motions."""
    names = [name for name in MOTION_MARKS if name in marks]
    if not names or not any(case.moving) or len(frames) < 3:
        return {}
    moves = case.moving[case.place]
    found: dict[str, Mapping[str, float]] = {
        STILL: {name: float(marks[name] and not moves) for name in names}
    }
    order = frame_order(len(frames), seed=case.place)
    for control, other in ((REVERSED, frames[::-1]), (SHUFFLED_FRAMES, frames[order])):
        seen = eye.read(np.ascontiguousarray(other), case.suite)
        right = eye.marks(seen, case.expected, case.suite)
        numbers = eye.measures(seen, case.expected, case.suite)
        found[control] = {
            **{name: float(right[name]) for name in names},
            **(numbers if control == SHUFFLED_FRAMES else {}),
        }
    return found
