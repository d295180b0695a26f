"""What each suite of the benchmark asks of a world, balanced over its answers.

Every suite lists candidates: what could be asked, the answer that it is balanced over first, and
the other attributes that it is balanced over as far as that allows. None means that the world
cannot show it.
"""

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from video_platform.shapes.expect import ATTRIBUTES, Asked, Expected, leave_out
from video_platform.shapes.world import (
    RELATIONS,
    WorldConfig,
    held_out_combinations,
    row_motions,
    trained_combinations,
)

_STRINGS = 1000
"""Rows of letters of each length that are drawn to choose from."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Something that a suite may ask."""

    expected: Expected
    answer: Hashable
    """What the suite asks about: each comes as often as any other."""
    others: tuple[Hashable, ...] = ()
    """What is balanced among the candidates of one answer: values by place."""


def balanced(
    candidates: Sequence[Candidate], count: int, rng: np.random.Generator
) -> list[Expected]:
    """Choose so that every answer comes equally often, and then every other attribute.

    Candidates come again when there are fewer than `count`; a longer choice begins with a shorter.
    """
    if not candidates:
        return []
    codes = _codes(candidates)  # (candidates, attributes)
    used = [np.zeros(column.max() + 1) for column in codes.T]
    # A value that is one of many should come again later than one of few.
    weights = np.array([len(each) for each in used])
    chosen: list[Expected] = []
    for _ in range(count):
        usage = np.stack([each[column] for each, column in zip(used, codes.T, strict=True)], axis=1)
        cost = usage @ weights + rng.random(len(codes))
        cost[usage[:, 0] > usage[:, 0].min()] = np.inf
        place = int(cost.argmin())
        for each, code in zip(used, codes[place], strict=True):
            each[code] += 1
        chosen.append(candidates[place].expected)
    return chosen


def _codes(candidates: Sequence[Candidate]) -> NDArray[np.int64]:
    """Number the values of each attribute: the answer, the others, and the candidate itself."""
    rows = [(each.answer, *each.others) for each in candidates]
    numbered = []
    for column in itertools.zip_longest(*rows):
        known = {value: number for number, value in enumerate(dict.fromkeys(column))}
        numbered.append([known[value] for value in column])
    return np.array([*numbered, range(len(candidates))]).T


def _one_object(world: WorldConfig, rng: np.random.Generator) -> Iterable[Candidate]:
    for asked in _alone(world):
        yield Candidate(expected=Expected(objects=(asked,)), answer=asked[:2], others=asked)


def _motion(world: WorldConfig, rng: np.random.Generator) -> Iterable[Candidate]:
    if len(world.motions) > 1:
        for asked in _alone(world):
            yield Candidate(
                expected=Expected(objects=(asked,)), answer=asked.motion, others=asked[:2]
            )


def _withheld(world: WorldConfig, rng: np.random.Generator) -> Iterable[Candidate]:
    if world.min_objects == 1:
        for each in held_out_combinations(world):
            asked = Asked(*each)
            yield Candidate(expected=Expected(objects=(asked,)), answer=asked, others=asked)


def _unsaid(world: WorldConfig, rng: np.random.Generator) -> Iterable[Candidate]:
    if not world.unsaid:
        return
    for attribute in ATTRIBUTES:
        known = [leave_out(Expected(objects=(asked,)), attribute) for asked in _alone(world)]
        for expected in dict.fromkeys(known):
            yield Candidate(expected=expected, answer=attribute, others=expected.objects[0])


def _alone(world: WorldConfig) -> list[Asked]:
    """Return what training shows of one object alone."""
    return [Asked(*each) for each in trained_combinations(world)] if world.min_objects == 1 else []


def _two_objects(world: WorldConfig, rng: np.random.Generator) -> Iterable[Candidate]:
    for pair in _pairs(world, [Asked(*each) for each in trained_combinations(world)]):
        yield Candidate(
            expected=Expected(objects=pair),
            answer=(pair[0].shape, pair[1].shape),
            others=(*pair[0], *pair[1], pair[0][:2], pair[1][:2]),
        )


def _relation(world: WorldConfig, rng: np.random.Generator) -> Iterable[Candidate]:
    if not world.relations:
        return
    shown = dict.fromkeys(Asked(*each[:2]) for each in trained_combinations(world))
    for pair in _pairs(world, list(shown)):
        for relation in RELATIONS:
            yield Candidate(
                expected=Expected(objects=pair, relation=relation),
                answer=relation,
                others=(*pair[0][:2], *pair[1][:2], *pair),
            )


def _pairs(world: WorldConfig, pool: Sequence[Asked]) -> Iterable[tuple[Asked, Asked]]:
    """Yield pairs in which no colour and no shape is both, as far as the world shows pairs."""
    if world.min_objects <= 2 <= world.max_objects and world.copies < 1:
        for first, second in itertools.permutations(pool, 2):
            if first.colour != second.colour and first.shape != second.shape:
                yield first, second


def _counting(world: WorldConfig, rng: np.random.Generator) -> Iterable[Candidate]:
    counts = range(world.min_objects, world.max_objects + 1)
    if len(counts) < 2 or not world.copies:
        return
    for count, each in itertools.product(counts, trained_combinations(world)):
        asked = Asked(*each)
        yield Candidate(expected=Expected(objects=(asked,) * count), answer=count, others=asked)


def _text(world: WorldConfig, rng: np.random.Generator) -> Iterable[Candidate]:
    """Yield a sample: there are too many rows of letters to name them all."""
    if not world.texts:
        return
    for count in range(1, world.max_letters + 1):
        motions = row_motions(world, count)
        for _ in range(_STRINGS):
            letters = "".join(
                world.letters[i] for i in rng.integers(len(world.letters), size=count)
            )
            colour = world.colours[int(rng.integers(len(world.colours)))]
            motion = motions[int(rng.integers(len(motions)))]
            yield Candidate(
                expected=Expected(text=letters, text_colour=colour, text_motion=motion),
                answer=count,
                others=(colour, motion, *letters),
            )


QUESTIONS: dict[str, Callable[[WorldConfig, np.random.Generator], Iterable[Candidate]]] = {
    "one object": _one_object,
    "two objects": _two_objects,
    "counting": _counting,
    "relation": _relation,
    "motion": _motion,
    "text": _text,
    "withheld": _withheld,
    "unsaid": _unsaid,
}
"""The candidates of each suite; none where a world cannot show what the suite asks."""
