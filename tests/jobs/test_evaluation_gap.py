"""The share of the gap that is closed: 0 is the undistilled model, 1 the teacher."""

import numpy as np
import pytest

from jobs.evaluation_gap import gaps
from jobs.evaluation_records import JudgedClip

PAIRS = [("s", "t"), ("s", "h")]


def clips(name, right, *, seeds=4, split="trained"):
    return [
        JudgedClip(
            contender=name,
            question=number // seeds,
            prompt=f"p{number // seeds}",
            split=split,
            seed=number,
            file="",
            marks={"exact": bool(each)},
        )
        for number, each in enumerate(right)
    ]


def share(student, teacher, hurried, *, pairs=PAIRS, **options):
    judged = [
        clip
        for name, right in {"s": student, "t": teacher, "h": hurried}.items()
        for clip in clips(name, right, **options)
    ]
    return gaps(judged, pairs, level=0.95, resamples=1000)


def test_the_ends_of_the_gap_are_0_and_1():
    rng = np.random.default_rng(0)
    teacher, hurried = rng.random(400) < 0.9, rng.random(400) < 0.3
    for student, value in ((hurried, 0.0), (teacher, 1.0)):
        (found,) = share(student, teacher, hurried)
        assert (found.interval.value, found.interval.low, found.interval.high) == (value,) * 3
        assert (found.contender, found.against, found.clips) == ("s", "h", 400)


def test_half_of_the_gap_is_half_with_an_interval_that_more_prompts_narrow():
    def found(count):
        rng = np.random.default_rng(1)
        draws = [rng.random(count) < rate for rate in (0.6, 0.9, 0.3)]
        (measure,) = share(*draws, seeds=1)
        return measure.interval

    many, few = found(4000), found(200)
    assert many.value == pytest.approx(0.5, abs=0.05)
    assert many.low < 0.5 < many.high
    assert few.high - few.low > 3 * (many.high - many.low)


def test_clips_of_one_prompt_are_drawn_together():
    (found,) = share([1, 1, 1, 1, 0, 0, 0, 0], [1] * 8, [0] * 8)  # one of two prompts is closed
    assert (found.interval.low, found.interval.value, found.interval.high) == (0, 0.5, 1)


def test_without_a_sure_gap_there_is_no_share_of_it():
    rng = np.random.default_rng(2)
    same = [rng.random(200) < 0.8 for _ in range(3)]
    assert share(*same) == ()
    assert share([1] * 8, [0] * 8, [1] * 8) == ()  # fewer steps are better


def test_a_student_that_met_no_undistilled_model_has_none():
    assert share([1] * 8, [1] * 8, [0] * 8, pairs=PAIRS[:1]) == ()


def test_splits_are_told_apart_and_together():
    judged = [
        clip
        for name, right in {"s": 1, "t": 1, "h": 0}.items()
        for split, question in (("a", 0), ("b", 1))
        for clip in [
            JudgedClip(
                contender=name,
                question=question,
                prompt=split,
                split=split,
                seed=question,
                file="",
                marks={"exact": bool(right and (name != "s" or split == "a"))},
            )
        ]
    ]
    found = {m.split: m.interval.value for m in gaps(judged, PAIRS, level=0.95, resamples=50)}
    assert found == {"a": 1.0, "b": 0.0, "all": 0.5}
