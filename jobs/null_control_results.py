"""Whether scores fell to chance when what was asked was taken away.

The chance level is counted, not drawn: the share of all other prompts of the suite that the very
same clip would answer. Reversing or shuffling time cannot break what asks for no motion, so its
level is the share of clips that are right and were asked for none, or chance where that is more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.evaluation_records import JudgedClip, by_table, prompt_groups
from jobs.null_controls import CHANCE, CONTROLS, SHUFFLED_CAPTIONS, STILL
from video_models.metrics.intervals import Interval, bootstrap_mean, rate_interval
from video_platform.shapes.benchmark import LOWER_IS_BETTER

ROUNDING = 1e-9
"""What sums of shares may differ by."""


@dataclass(frozen=True, kw_only=True)
class NullControl:
    """One mark or measure of a contender without what was asked."""

    contender: str
    """Whose clips."""
    split: str
    """The suite."""
    control: str
    """One of `CONTROLS`."""
    name: str
    """The mark, or the measure."""
    clips: int
    """On how many clips."""
    real: float
    """The number without the control."""
    interval: Interval
    """The number under it."""
    chance: float | None
    """The level that a mark falls to; None for a measure."""
    fell: bool
    """Whether a mark is not above that level beyond doubt, all marks of the contender considered;
    of a measure, whether it is worse than without the control beyond doubt."""


def null_controls(
    clips: Sequence[JudgedClip], *, level: float, resamples: int
) -> tuple[NullControl, ...]:
    """Say of every contender, suite, control and mark whether it fell.

    Args:
        clips: clips of all contenders, with their controls.
        level: confidence of each interval, and of all that is said of one contender together.
        resamples: bootstrap draws for measures.
    """
    tables = by_table(clips)
    found = []
    for contender in dict.fromkeys(name for name, _ in tables):
        mine = [chosen for (name, _), chosen in tables.items() if name == contender]
        looked = [
            _Table(clips=held, control=control, name=name)
            for chosen in mine
            for control in CONTROLS
            for name in _names(chosen, control)
            if (held := _holding(chosen, control, name))
        ]
        # Of so many numbers some would stray by luck: each is held to its share of the doubt.
        strict = 1 - (1 - level) / max(1, len(looked))
        found += [_found(each, level=level, strict=strict, resamples=resamples) for each in looked]
    return tuple(found)


def _names(clips: Sequence[JudgedClip], control: str) -> list[str]:
    return list(dict.fromkeys(name for c in clips for name in c.controls.get(control, {})))


def _holding(clips: Sequence[JudgedClip], control: str, name: str) -> list[JudgedClip]:
    """Choose the clips that have a number with and without the control."""
    return [
        clip
        for clip in clips
        if name in clip.controls.get(control, {}) and (name in clip.marks or name in clip.measures)
    ]


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The clips of one number."""

    clips: Sequence[JudgedClip]
    control: str
    name: str

    @property
    def groups(self) -> list[int]:
        return prompt_groups(self.clips)

    def values(self, control: str) -> list[float]:
        return [clip.controls.get(control, {}).get(self.name, 0.0) for clip in self.clips]


def _found(table: _Table, *, level: float, strict: float, resamples: int) -> NullControl:
    first = table.clips[0]
    if table.name in first.marks:
        real = float(np.mean([clip.marks[table.name] for clip in table.clips]))
        interval, chance, fell = _of_mark(table, level=level, strict=strict)
    else:
        before = [clip.measures[table.name] for clip in table.clips]
        real, chance = float(np.mean(before)), None
        interval = bootstrap_mean(
            table.values(table.control), table.groups, level=level, resamples=resamples
        )
        fell = _is_worse(table, before, level=strict, resamples=resamples)
    return NullControl(
        contender=first.contender,
        split=first.split,
        control=table.control,
        name=table.name,
        clips=len(table.clips),
        real=real,
        interval=interval,
        chance=chance,
        fell=fell,
    )


def _of_mark(table: _Table, *, level: float, strict: float) -> tuple[Interval, float, bool]:
    """Return a mark's rate under a control, its chance level, and whether it fell there.

    A failure does not fall to chance: it rises.
    """
    hits = [value > 0.5 for value in table.values(table.control)]
    chance = float(np.mean(table.values(CHANCE)))
    if table.control != SHUFFLED_CAPTIONS:
        chance = max(chance, float(np.mean(table.values(STILL))))
    bounds = rate_interval(hits, table.groups, level=strict)
    if table.name in LOWER_IS_BETTER:
        fell = bounds.high >= chance - ROUNDING
    else:
        fell = bounds.low <= chance + ROUNDING
    return rate_interval(hits, table.groups, level=level), chance, fell


def _is_worse(table: _Table, before: Sequence[float], *, level: float, resamples: int) -> bool:
    sign = 1 if table.name in LOWER_IS_BETTER else -1
    worse = [
        sign * (after - real)
        for real, after in zip(before, table.values(table.control), strict=True)
    ]
    return bootstrap_mean(worse, table.groups, level=level, resamples=resamples).low > 0


def statement(controls: Sequence[NullControl]) -> str:
    """Say in one sentence whether a contender's marks fell to chance."""
    marks = [each for each in controls if each.chance is not None]
    if not marks:
        return "No null control could be run."
    stayed = [each for each in marks if not each.fell]
    if not stayed:
        return f"All {len(marks)} null controls fell to chance."
    told = "; ".join(
        f"{each.split}, {each.name} under {each.control}: {100 * each.interval.value:.0f}% "
        f"where chance is {100 * (each.chance or 0):.0f}%"
        for each in stayed
    )
    return f"{len(stayed)} of {len(marks)} null controls did not fall to chance: {told}."


@dataclass(frozen=True, kw_only=True)
class Controlled:
    """What the null controls say of one contender."""

    name: str
    """Whose."""
    statement: str
    """In a sentence."""
    fell: bool
    """Whether all marks fell to chance."""
    controls: tuple[NullControl, ...]
    """Each of them."""


def by_contender(controls: Sequence[NullControl]) -> list[Controlled]:
    """Sort null controls by contender, in their order, and say what came of each."""
    found = []
    for name in dict.fromkeys(each.contender for each in controls):
        mine = tuple(each for each in controls if each.contender == name)
        found.append(
            Controlled(
                name=name,
                statement=statement(mine),
                fell=all(each.fell for each in mine if each.chance is not None),
                controls=mine,
            )
        )
    return found
