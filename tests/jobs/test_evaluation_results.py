"""Rates and differences are counted as stated."""

import pytest

from jobs.evaluation_records import JudgedClip, find
from jobs.evaluation_results import as_metrics
from jobs.evaluation_statistics import differences, rates


def clip(contender, prompt, seed, right, split="trained"):
    return JudgedClip(
        contender=contender,
        question=int(prompt[1:]),
        prompt=prompt,
        split=split,
        seed=seed,
        file="",
        marks={"colour": right},
    )


def test_a_rate_is_the_share_of_right_clips_of_its_split():
    clips = [clip("m", f"p{i}", i, right=i < 6) for i in range(8)]
    clips += [clip("m", "p9", 9, right=False, split="withheld")]
    trained, withheld = rates(clips, level=0.95)
    assert (trained.split, trained.clips, trained.interval.value) == ("trained", 8, 0.75)
    assert (withheld.split, withheld.clips, withheld.interval.value) == ("withheld", 1, 0)


def test_clips_of_one_prompt_tell_less_than_clips_of_many():
    many = rates([clip("m", f"p{i}", i, right=i % 2 == 0) for i in range(20)], level=0.95)[0]
    few = rates([clip("m", f"p{i // 5}", i, right=i < 10) for i in range(20)], level=0.95)[0]
    assert many.interval.value == few.interval.value == 0.5
    assert few.interval.high - few.interval.low > 1.3 * (many.interval.high - many.interval.low)


def test_differences_pair_equal_prompts_and_seeds():
    teacher = [clip("t", f"p{i}", i, right=i < 5) for i in range(10)]
    student = [clip("s", f"p{i}", i, right=i < 4) for i in reversed(range(10))]
    (measure,) = differences([*teacher, *student], [("s", "t")], level=0.95, resamples=200)
    assert measure.interval.value == pytest.approx(-0.1)
    assert measure.interval.low < -0.1 <= measure.interval.high <= 0  # pairs, not two rates
    assert (measure.contender, measure.against, measure.clips) == ("s", "t", 10)


def test_a_measure_that_is_not_there_is_none():
    assert find([], contender="m", name="colour", split="trained") is None


def test_metric_names_are_fit_for_a_tracking_server():
    import re
    from pathlib import Path

    from jobs.evaluation_results import EvaluationResult

    clips = [clip(name, f"p{i}", i, right=True) for name in ("s", "t") for i in range(2)]
    result = EvaluationResult(
        title="x",
        folder=Path(),
        contenders=(),
        clips=tuple(clips),
        rates=rates(clips, level=0.9),
        differences=differences(clips, [("s", "t")], level=0.9, resamples=10),
        reconstructions=(),
        measured_on="raw",
        level=0.9,
    )
    names = as_metrics(result)
    assert set(names) == {"s/trained/colour", "t/trained/colour", "s minus t/trained/colour"}
    assert all(re.fullmatch(r"[\w\-. :/]+", name) for name in names)
