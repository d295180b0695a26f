"""What a model shows where its prompt leaves something open, against what training showed.

    "a circle moves left"  ->  its colours, and those of training's circles that move left

The distance is the total variation: the share of clips that would have to show something else. A
finite number of clips is never spread exactly as training's, so the distance that as many clips
drawn from training's own law would have stands beside it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.evaluation_bench import Law
from jobs.evaluation_records import JudgedClip
from video_models.metrics.intervals import Interval

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Bias:
    """What a contender shows of one attribute where it was left open."""

    contender: str
    """Whose clips."""
    attribute: str
    """What was left open."""
    clips: int
    """On how many clips."""
    shown: Law
    """Shares of what they show; `unknown` could not be read."""
    trained: Law
    """Shares of what training shows for the same captions."""
    distance: Interval
    """Total variation between the two, with its interval over prompts."""
    by_chance: float
    """Mean distance of as many clips drawn from training's own law."""


def biases(
    clips: Sequence[JudgedClip],
    laws: Mapping[int, Mapping[str, Law]],
    *,
    level: float,
    resamples: int,
) -> tuple[Bias, ...]:
    """Compare what is shown with what training showed, by contender and attribute.

    Args:
        clips: clips of all contenders, with their answers.
        laws: by prompt, what training shows of each attribute that the prompt leaves open.
        level: confidence of the intervals.
        resamples: bootstrap draws.
    """
    found = []
    for contender in dict.fromkeys(clip.contender for clip in clips):
        mine = [clip for clip in clips if clip.contender == contender and clip.question in laws]
        for attribute in sorted({name for clip in mine for name in laws[clip.question]}):
            chosen = [clip for clip in mine if attribute in laws[clip.question]]
            table = _counts(chosen, laws, attribute)
            found.append(_bias(table, contender, attribute, level=level, resamples=resamples))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """Answers by prompt."""

    answers: list[str]
    shown: Floats
    """Clips (prompts, answers)."""
    trained: Floats
    """Clips to be expected (prompts, answers)."""


def _counts(
    clips: Sequence[JudgedClip], laws: Mapping[int, Mapping[str, Law]], attribute: str
) -> _Counts:
    prompts = sorted({clip.question for clip in clips})
    seen = {(clip.question, clip.answers[attribute]) for clip in clips}
    answers = sorted(
        {answer for _, answer in seen}
        | {answer for prompt in prompts for answer in laws[prompt][attribute]}
    )
    counted = Counter((clip.question, clip.answers[attribute]) for clip in clips)
    shown = np.array([[counted[p, a] for a in answers] for p in prompts], float)
    law = np.array([[laws[p][attribute].get(a, 0.0) for a in answers] for p in prompts])
    return _Counts(answers=answers, shown=shown, trained=law * shown.sum(1, keepdims=True))


def _bias(table: _Counts, contender: str, attribute: str, *, level: float, resamples: int) -> Bias:
    rng = np.random.default_rng(0)
    prompts = len(table.shown)
    draws = rng.integers(prompts, size=(resamples, prompts))
    distances = total_variation(table.shown[draws].sum(1), table.trained[draws].sum(1))
    low, high = np.quantile(distances, [(1 - level) / 2, (1 + level) / 2])
    shown, trained = table.shown.sum(0), table.trained.sum(0)
    return Bias(
        contender=contender,
        attribute=attribute,
        clips=int(shown.sum()),
        shown=_law(table.answers, shown),
        trained=_law(table.answers, trained),
        distance=Interval(float(total_variation(shown, trained)), float(low), float(high)),
        by_chance=_by_chance(table, rng, resamples),
    )


def _by_chance(table: _Counts, rng: np.random.Generator, resamples: int) -> float:
    """Draw each prompt's clips from training's law, and return the mean distance."""
    drawn: Any = np.zeros((resamples, len(table.answers)))
    for trained in table.trained:
        clips = round(trained.sum())
        drawn += rng.multinomial(clips, trained / trained.sum(), size=resamples)
    return float(total_variation(drawn, table.trained.sum(0)).mean())


def _law(answers: Sequence[str], counts: Floats) -> dict[str, float]:
    return {a: float(n) for a, n in zip(answers, counts / counts.sum(), strict=True)}


def total_variation(one: Floats, other: Floats) -> Floats:
    """Return half the sum of absolute differences of two laws (..., answers), given as counts."""
    p, q = (counts / counts.sum(-1, keepdims=True) for counts in (one, other))
    return np.asarray(0.5 * np.abs(p - q).sum(-1))
