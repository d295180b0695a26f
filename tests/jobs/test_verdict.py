"""Students that failed on purpose are each caught by name, on renders and on real clips."""

import functools
import os
from pathlib import Path

import numpy as np
import pytest

from jobs.clip_scores import ClipScore, diversity, score_clip
from jobs.verdict import Limits, judge
from video_platform.shapes.detect import detect_in
from video_platform.shapes.judge import judge as marks_of
from video_platform.shapes.program import draw_program, program_at
from video_platform.shapes.render import render
from video_platform.shapes.world import WorldConfig, trained_combinations
from video_platform.video.decode import decode
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

WORLD = WorldConfig(num_clips=64)


@functools.cache
def renders():
    """A teacher that is always right: six prompts, four clips each."""
    clips = {}
    for prompt, combination in enumerate(trained_combinations(WORLD)[::12]):
        for seed in range(4):
            program = draw_program(WORLD, combination, np.random.default_rng((prompt, seed)))
            clips[prompt, seed] = render(program)
    return clips


def real_clips():
    """Windows of real videos: each file is a prompt, each window one of its clips."""
    folder = Path(os.environ.get("REAL_VIDEOS", "/nowhere")) / "clips"
    if not folder.is_dir():
        pytest.skip("REAL_VIDEOS names no folder with clips")
    policy = PixelPolicy(frames=48, height=48, width=48, fps=8.0, short="repeat_last")
    clips = {}
    for prompt, path in enumerate(sorted(folder.glob("*.mp4"))[:5]):
        frames = decode(path, policy=policy, limits=MediaLimits()).frames
        for seed in range(4):
            clips[prompt, seed] = frames[12 * seed : 12 * seed + 9]
    assert clips
    return clips


@pytest.fixture(scope="module", params=[renders, real_clips], ids=["renders", "real clips"])
def teacher(request):
    return request.param()


def scores(clips):
    return {key: score_clip(frames) for key, frames in clips.items()}


def noisy(clips, amount=2.0, seed=0):
    """The same clips but for a little noise, as a good student's are."""
    rng = np.random.default_rng(seed)
    return {
        key: (frames + rng.normal(0, amount, frames.shape)).clip(0, 255).astype(np.uint8)
        for key, frames in clips.items()
    }


def collapsed(clips):
    return {key: clips[key[0], 0] for key in clips}


def frozen(clips):
    return {key: np.repeat(frames[:1], len(frames), axis=0) for key, frames in clips.items()}


def coloured(clips, factor):
    def turn(frames):
        gray = frames.mean(axis=-1, keepdims=True)
        return (gray + factor * (frames - gray)).clip(0, 255).astype(np.uint8)

    return {key: turn(frames) for key, frames in clips.items()}


def hurried(clips):
    """What an undistilled model makes in few steps: blurred towards the clip's mean."""
    return {
        key: (0.6 * frames + 0.4 * frames.mean(axis=(0, 1, 2))).astype(np.uint8)
        for key, frames in clips.items()
    }


def names(student, teacher, few=None):
    verdict = judge(scores(student), scores(teacher), few and scores(few))
    assert verdict.passed == (not verdict.failures)
    return {finding.name for finding in verdict.failures}


def test_a_good_student_passes(teacher):
    assert names(noisy(teacher), teacher, hurried(teacher)) == set()


def test_a_collapsed_student_is_caught(teacher):
    assert "collapsed" in names(noisy(collapsed(teacher)), teacher, hurried(teacher))


def test_a_frozen_student_is_caught(teacher):
    assert "frozen" in names(frozen(teacher), teacher, hurried(teacher))


def test_a_pale_and_a_glowing_student_are_caught(teacher):
    muted = coloured(teacher, 0.4)
    assert "faded" in names(muted, teacher, hurried(teacher))
    assert "over_saturated" in names(teacher, muted, hurried(muted))


def test_an_unchanged_student_is_caught(teacher):
    few = hurried(teacher)
    assert "unchanged" in names(noisy(few, 1.0), teacher, few)


def test_nothing_is_asked_to_change_where_few_steps_are_enough():
    clips = renders()
    assert names(noisy(clips), clips, noisy(clips, seed=1)) == set()


def marked(wrong_every=0):
    """Scores whose marks are all right, but for every so many."""
    thumbnail = np.zeros((2, 8, 8, 3), np.float32)
    return {
        (number // 4, number): ClipScore(
            thumbnail=thumbnail,
            saturation=0.5,
            motion=1.0,
            marks={"exact": not (wrong_every and number % wrong_every == 0)},
        )
        for number in range(128)
    }


def test_a_less_accurate_student_is_caught_and_the_reason_says_so():
    verdict = judge(marked(wrong_every=4), marked())
    assert [f.name for f in verdict.failures] == ["less_accurate"]
    assert verdict.reasons[0].startswith(
        "less_accurate: the change in the share of clips with the right exact is -0.25"
    )
    assert judge(marked(wrong_every=64), marked()).passed


def in_suites(**wrong):
    """Scores of two suites with marks of their own; `wrong` is the share of each that is wrong."""
    kinds = {"two objects": ("binding", "swapped"), "counting": ("count", "binding")}
    thumbnail = np.zeros((2, 8, 8, 3), np.float32)
    found = {}
    for number, (suite, marks) in enumerate(kinds.items()):
        for seed in range(64):
            share = {name: wrong.get(f"{suite}: {name}", 0) for name in marks}
            found[100 * number + seed // 4, seed] = ClipScore(
                thumbnail=thumbnail,
                saturation=0.5,
                motion=1.0,
                suite=suite,
                marks={
                    name: (seed % 8 >= 8 * share[name]) != (name == "swapped") for name in marks
                },
            )
    return found


def reasons(student, teacher):
    return [each.what for each in judge(student, teacher).failures]


def test_marks_of_equal_name_count_apart_in_each_suite():
    what = "the change in the share of clips of the suite {!r} with the right binding"
    worse = in_suites(**{"two objects: binding": 0.5})
    assert reasons(worse, in_suites()) == [what.format("two objects")]
    assert reasons(in_suites(), worse) == []
    worse = in_suites(**{"counting: binding": 0.5})
    assert reasons(worse, in_suites()) == [what.format("counting")]


def test_a_failure_that_becomes_more_frequent_is_caught_and_a_rarer_one_is_not():
    swapping = in_suites(**{"two objects: swapped": 0.5})
    verdict = judge(swapping, in_suites())
    (failure,) = verdict.failures
    assert (failure.interval.value, failure.limit) == (0.5, 0.05)
    assert failure.what.endswith("of the suite 'two objects' that are swapped")
    assert judge(in_suites(), swapping).passed


def test_limits_are_the_callers():
    assert judge(marked(wrong_every=4), marked(), limits=Limits(accuracy_drop=0.5)).passed


def test_models_without_a_clip_in_common_cannot_be_compared():
    with pytest.raises(ValueError, match="no clip of equal prompt and seed"):
        judge(marked(), {(9999, 0): next(iter(marked().values()))})


def test_detectors_marks_travel_with_the_scores():
    program = program_at(WORLD, 3)
    frames = render(program)
    marks = marks_of(detect_in(WORLD, frames), program.combinations)
    assert score_clip(frames, marks).marks["exact"]


def test_diversity_is_that_of_each_prompts_own_clips():
    clips = scores(renders())
    assert set(diversity(clips)) == {prompt for prompt, _ in renders()}
    assert max(diversity(scores(collapsed(renders()))).values()) == 0
    assert diversity({(0, 0): clips[0, 0]}) == {}
