"""Null controls on a world of numbers, where everything can be counted by hand."""

from collections import Counter

import numpy as np
import pytest

from jobs.evaluation_records import JudgedClip
from jobs.null_control_results import null_controls, statement
from jobs.null_controls import (
    CHANCE,
    REVERSED,
    SHUFFLED_CAPTIONS,
    SHUFFLED_FRAMES,
    Eye,
    cases_of,
    derangement,
    examined,
    frame_order,
)


def read(frames, suite):
    """A clip is a bright pixel: its colour is the value, its direction that of its places."""
    places = [int(frame.argmax()) for frame in frames[..., 0]]
    steps = np.diff(places)
    way = "left" if (steps < 0).all() else "right" if (steps > 0).all() else "unknown"
    return (
        int(frames.max()),
        "still" if not steps.any() else way,
        float(np.abs(np.diff(steps)).sum()),
    )


EYE = Eye(
    read=read,
    marks=lambda seen, asked, suite: {
        "colour": seen[0] == asked[0],
        "direction": seen[1] == asked[1],
        "count": True,
    },
    measures=lambda seen, asked, suite: {"smoothness": seen[2]},
    answers=lambda seen, suite: {},
)
ASKED = [(100 + 10 * c, way) for c in range(6) for way in ("left", "right", "still", "left")]
CASES = cases_of("motion", ASKED, [way != "still" for _, way in ASKED], seed=3)


def show(asked):
    colour, way = asked
    frames = np.zeros((9, 1, 9, 3), np.uint8)
    for time in range(9):
        frames[time, 0, {"left": 8 - time, "right": time, "still": 4}[way]] = colour
    return frames


def judged(shown, *, contender="m", seeds=2, cases=CASES, eye=EYE):
    clips = []
    for place, case in enumerate(cases):
        for seed in range(seeds):
            seen = examined(eye, show(shown(case.expected)), case)
            clips.append(
                JudgedClip(
                    contender=contender,
                    question=place,
                    prompt=f"p{place}",
                    split=case.suite,
                    seed=seed,
                    file="",
                    marks=seen.marks,
                    measures=seen.measures,
                    controls=seen.controls,
                )
            )
    return clips


def controls(*tables):
    clips = [clip for table in tables for clip in table]
    found = null_controls(clips, level=0.95, resamples=200)
    return {(each.control, each.name): each for each in found}


def test_a_derangement_keeps_nothing_in_its_place_and_leads_everywhere():
    for seed in range(50):
        places = derangement(7, seed=seed)
        assert sorted(places) == list(range(7))
        assert all(place != other for place, other in enumerate(places))
    led = Counter(derangement(4, seed=seed)[0] for seed in range(3000))
    assert set(led) == {1, 2, 3}
    assert all(900 < count < 1100 for count in led.values())
    assert derangement(7, seed=1) == derangement(7, seed=1) != derangement(7, seed=2)
    assert (derangement(1, seed=0), derangement(0, seed=0)) == ([0], [])


def test_frames_are_put_in_an_order_that_runs_in_no_direction():
    for seed in range(200):
        order = frame_order(3, seed=seed)
        assert sorted(order) == [0, 1, 2]
        assert order not in ([0, 1, 2], [2, 1, 0])
    assert frame_order(2, seed=0) == [0, 1]
    for seed in range(50):
        order = frame_order(9, seed=seed)
        assert sorted(order) == list(range(9))
        assert abs(np.corrcoef(order, range(9))[0, 1]) < 0.1
    assert len({tuple(frame_order(9, seed=seed)) for seed in range(50)}) > 40


def test_chance_is_the_share_of_all_other_prompts_that_a_clip_answers():
    case = CASES[0]
    seen = examined(EYE, show(case.expected), case)
    others = ASKED[1:]
    assert seen.controls[CHANCE] == {
        "colour": sum(colour == 100 for colour, _ in others) / 23,
        "direction": sum(way == "left" for _, way in others) / 23,
        "count": 1.0,
    }
    given = ASKED[case.partner]
    assert seen.controls[SHUFFLED_CAPTIONS]["direction"] == float(given[1] == "left")


def test_the_ground_truth_is_right_and_its_null_controls_fall_to_chance():
    found = controls(judged(lambda asked: asked))
    assert all(each.real == 1 for each in found.values() if each.chance is not None)
    assert all(each.fell for each in found.values())
    direction = found[REVERSED, "direction"]
    assert direction.interval.value == 6 / 24  # those that are asked to stay still
    assert found[SHUFFLED_FRAMES, "direction"].interval.value == 6 / 24
    assert found[SHUFFLED_FRAMES, "smoothness"].real == 0
    assert found[SHUFFLED_FRAMES, "smoothness"].interval.low > 0
    assert statement(list(found.values())) == "All 5 null controls fell to chance."


def test_a_mark_that_is_always_right_has_a_chance_of_all():
    count = controls(judged(lambda asked: asked))[SHUFFLED_CAPTIONS, "count"]
    assert (count.real, count.chance, count.interval.value) == (1, 1, 1)


def test_a_judge_that_does_not_look_at_time_is_told():
    class Blind:
        def __call__(self, seen, asked, suite):
            return {"direction": True}

    blind = Eye(read=read, marks=Blind(), measures=EYE.measures, answers=EYE.answers)
    clips = []
    for place, case in enumerate(CASES):
        seen = examined(blind, show(case.expected), case)
        held = dict(seen.controls) | {CHANCE: {"direction": 0.25}}
        clips.append(
            JudgedClip(
                contender="m",
                question=place,
                prompt=f"p{place}",
                split="motion",
                seed=0,
                file="",
                marks=seen.marks,
                measures=seen.measures,
                controls=held,
            )
        )
    found = controls(clips)
    assert not found[REVERSED, "direction"].fell
    told = statement(list(found.values()))
    assert told.startswith("3 of 3 null controls did not fall to chance: motion, direction under")
    assert "100% where chance is 25%" in told


def test_a_model_that_ignores_its_prompt_is_at_chance_with_and_without_controls():
    found = controls(judged(lambda asked: (100, "left")))
    direction = found[SHUFFLED_CAPTIONS, "direction"]
    assert direction.real == direction.interval.value == 0.5
    assert direction.chance == pytest.approx(0.5, abs=0.01)
    assert direction.fell


def test_clips_that_jump_already_do_not_get_worse_beyond_doubt():
    jumping = judged(lambda asked: asked)
    for clip in jumping:
        clip.measures["smoothness"] = clip.controls[SHUFFLED_FRAMES]["smoothness"]
    assert not controls(jumping)[SHUFFLED_FRAMES, "smoothness"].fell


def test_failures_rise_to_chance():
    eye = Eye(
        read=read,
        marks=lambda seen, asked, suite: {"swapped": seen[0] != asked[0]},
        measures=lambda seen, asked, suite: {},
        answers=EYE.answers,
    )
    found = controls(judged(lambda asked: asked, eye=eye))[SHUFFLED_CAPTIONS, "swapped"]
    assert found.real == 0
    assert found.chance == pytest.approx(20 / 23)
    assert found.fell
    stuck = judged(lambda asked: asked, eye=eye)
    for clip in stuck:
        clip.controls[SHUFFLED_CAPTIONS]["swapped"] = 0.0
    assert not controls(stuck)[SHUFFLED_CAPTIONS, "swapped"].fell


def test_clips_without_a_measure_are_left_out_of_it():
    clips = judged(lambda asked: asked)
    clips[0].measures.clear()
    found = controls(clips)[SHUFFLED_FRAMES, "smoothness"]
    assert found.clips == len(clips) - 1
    for clip in clips:
        clip.measures.clear()
    assert (SHUFFLED_FRAMES, "smoothness") not in controls(clips)


def test_a_suite_of_one_prompt_has_no_other_captions():
    (case,) = cases_of("motion", [(100, "left")], [True], seed=0)
    seen = examined(EYE, show((100, "left")), case)
    assert set(seen.controls) & {SHUFFLED_CAPTIONS, CHANCE} == set()
    assert seen.controls[REVERSED]["direction"] == 0


def test_suites_without_motion_are_not_turned_round():
    cases = cases_of("counting", [(100, "still"), (110, "still")], [False, False], seed=0)
    seen = examined(EYE, show((100, "still")), cases[0])
    assert set(seen.controls) == {SHUFFLED_CAPTIONS, CHANCE}
    assert statement([]) == "No null control could be run."
