"""How much of what the undistilled model lacks in few steps a student has won back.

    share of the gap = (student - hurried) / (teacher - hurried)

all three at equal prompts and seeds; 0 is an undistilled model, 1 is the teacher at all its steps.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from jobs.evaluation_records import ALL, JudgedClip, Measure, prompt_groups
from video_models.metrics.intervals import Interval

MARK = "exact"
"""The mark whose gap is looked at."""

GAP_CLOSED = "gap closed"
"""What the tables call the share."""

Clips = Mapping[tuple[int, int], JudgedClip]
"""A contender's clips by prompt and seed."""


def gaps(
    clips: Sequence[JudgedClip],
    pairs: Sequence[tuple[str, str]],
    *,
    level: float,
    resamples: int,
) -> tuple[Measure, ...]:
    """Return the share of the gap that each student closes, by split and over all prompts.

    There is none without a comparison at equal steps, in a split without the mark, and where the
    teacher is not better than its undistilled self beyond doubt.

    Args:
        clips: clips of all contenders.
        pairs: (student, teacher) by name: the teacher first, then the undistilled model.
        level: confidence.
        resamples: bootstrap draws.
    """
    tables: dict[str, dict[tuple[int, int], JudgedClip]] = {}
    for clip in clips:
        if MARK in clip.marks:
            tables.setdefault(clip.contender, {})[clip.question, clip.seed] = clip
    measures = []
    for student in dict.fromkeys(name for name, _ in pairs):
        teachers = [teacher for name, teacher in pairs if name == student]
        if len(teachers) < 2 or student not in tables:
            continue
        for split, chosen in _splits(tables[student]):
            values = [_marks(tables[name], chosen) for name in (student, *teachers[:2])]
            share = _closed(values, prompt_groups(chosen), level=level, resamples=resamples)
            if share is None:
                continue
            measures.append(
                Measure(
                    contender=student,
                    against=teachers[1],
                    split=split,
                    name=GAP_CLOSED,
                    clips=len(chosen),
                    interval=share,
                )
            )
    return tuple(measures)


def _splits(clips: Clips) -> Iterator[tuple[str, list[JudgedClip]]]:
    """Yield the clips of each split, and of all together where there are several."""
    splits = dict.fromkeys(clip.split for clip in clips.values())
    for split in splits:
        yield split, [clip for clip in clips.values() if clip.split == split]
    if len(splits) > 1:
        yield ALL, list(clips.values())


def _marks(table: Clips, chosen: Sequence[JudgedClip]) -> Tensor:
    return torch.tensor(
        [float(table[clip.question, clip.seed].marks[MARK]) for clip in chosen],
        dtype=torch.float64,
    )


def _closed(
    values: Sequence[Tensor], groups: Sequence[int], *, level: float, resamples: int
) -> Interval | None:
    """Return the share with its bootstrap interval over whole prompts; None where no gap is sure.

    Args:
        values: marks (N,) of the student, the teacher and the undistilled model.
        groups: (N,) which prompt each clip belongs to.
        level: confidence.
        resamples: bootstrap draws.
    """
    student, teacher, hurried = values
    won, gap = (_by_group(x - hurried, groups) for x in (student, teacher))
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(len(gap), (resamples, len(gap)), generator=generator)
    above, below = won[draws].sum(1), gap[draws].sum(1)
    low, high = (1 - level) / 2, (1 + level) / 2
    if _quantile(below, low) <= 0:
        return None
    # The few draws without a gap lie beyond either bound.
    shares = torch.where(below > 0, above / below.clamp_min(1e-9), above.sign() * torch.inf)
    value = float(won.sum() / gap.sum())
    return Interval(value, _quantile(shares, low), _quantile(shares, high))


def _by_group(values: Tensor, groups: Sequence[int]) -> Tensor:
    index = torch.tensor(groups)
    sums = torch.zeros(int(index.max()) + 1, dtype=values.dtype)
    return sums.index_add(0, index, values)


def _quantile(values: Tensor, share: float) -> float:
    """Return the value at a share of the way, one of the values themselves."""
    ordered = values.sort().values
    return float(ordered[round(share * (len(ordered) - 1))])
