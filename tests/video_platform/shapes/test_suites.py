"""Marks and measures: what is right, what is wrong and how, and what cannot be told."""

import dataclasses

import numpy as np
import pytest

from pipelines.clip import CRF
from tests.video_platform.shapes.filming import RICH, through_mp4
from video_platform.shapes.benchmark import (
    LOWER_IS_BETTER,
    answers,
    marks,
    marks_of,
    measures,
    measures_of,
    read,
    reference_programs,
)
from video_platform.shapes.expect import Asked, Expected
from video_platform.shapes.program import MovingShape, Program
from video_platform.shapes.render import render
from video_platform.shapes.suites import MARKS, MEASURES, character_score
from video_platform.shapes.world import BACKGROUNDS, RELATIONS

RED = Asked("red", "circle", "still")
BLUE = Asked("blue", "square", "still")
PAIR = Expected(objects=(RED, BLUE))


def still(asked, x, y, radius=5.0):
    return MovingShape(**asked._asdict(), radius=radius, x=x, y=y, vx=0.0, vy=0.0)


def clip(*objects, frames=9):
    empty = Program(size=32, frames=frames, fps=8.0, background="grey", objects=objects)
    return through_mp4(render(empty), crf=CRF)


def pair(first=RED, second=BLUE, at=((8, 8), (23, 23))):
    return clip(still(first, *at[0]), still(second, *at[1]))


def two(frames):
    return marks(RICH, frames, PAIR, "two objects")


def test_marks_and_measures_have_the_keys_of_their_suite():
    for suite in MARKS:
        expected = Expected(text="LT") if suite == "text" else PAIR
        seen = read(RICH, pair(), suite)
        assert set(marks_of(seen, expected, suite)) == set(MARKS[suite])
        assert set(measures_of(seen, expected, suite)) == set(MEASURES[suite])


def test_two_objects_as_asked_are_bound_whatever_their_order():
    right = {"binding": True, "swapped": False, "blended": False, "count": True, "exact": True}
    assert two(pair()) == two(pair(BLUE, RED)) == right


def test_exchanged_colours_are_swapped_and_not_blended():
    seen = two(pair(RED._replace(colour="blue"), BLUE._replace(colour="red")))
    assert seen == {
        "binding": False,
        "swapped": True,
        "blended": False,
        "count": True,
        "exact": False,
    }


BLENDS = {
    "both red": lambda: pair(RED, BLUE._replace(colour="red")),
    "both circles": lambda: pair(RED, BLUE._replace(shape="circle")),
    "another colour": lambda: pair(RED, BLUE._replace(colour="green")),
    "one is missing": lambda: clip(still(RED, 16, 16)),
    "none is there": lambda: np.full((9, 32, 32, 3), 128, np.uint8),
    "a third one": lambda: clip(still(RED, 8, 8, 4), still(BLUE, 24, 8, 4), still(RED, 16, 24, 4)),
    "a mixed colour": lambda: _mixed(),
    "one shape in two colours": lambda: _halved(),
    "one lies over the other": lambda: _hidden(),
}


def _mixed():
    """Show both shapes in the mean of both colours."""
    frames = pair().astype(float)
    swapped = pair(RED._replace(colour="blue"), BLUE._replace(colour="red"))
    return ((frames + swapped) / 2).round().astype(np.uint8)


def _halved():
    """Show a circle whose left half is red and whose right half is blue."""
    frames = clip(still(RED, 16, 16, 7)).copy()
    frames[:, :, 16:] = clip(still(RED._replace(colour="blue"), 16, 16, 7))[:, :, 16:]
    return frames


def _hidden():
    """Show a blue square that hides a part of a red circle."""
    behind, before = clip(still(RED, 13, 13)), clip(still(BLUE, 18, 18))
    hides = (np.abs(before.astype(int) - 128) > 64).any(-1, keepdims=True)
    return np.where(hides, before, behind)


@pytest.mark.parametrize("name", BLENDS)
def test_what_mixes_or_loses_an_object_is_blended(name):
    seen = two(BLENDS[name]())
    assert seen["blended"]
    assert not (seen["binding"] or seen["swapped"] or seen["exact"])


def test_every_pair_is_bound_swapped_or_blended_and_only_one_of_them():
    for frames in (pair(), pair(BLUE, RED._replace(shape="triangle")), BLENDS["both red"]()):
        seen = two(frames)
        assert seen["binding"] + seen["swapped"] + seen["blended"] == 1


PLACES = {
    "left of": ((8, 16), (24, 16)),
    "right of": ((24, 14), (8, 18)),
    "above": ((16, 8), (14, 24)),
    "below": ((18, 24), (16, 8)),
}
MIRRORED = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def related(relation, frames):
    expected = dataclasses.replace(
        PAIR, objects=(RED._replace(motion=None), BLUE._replace(motion=None)), relation=relation
    )
    return marks(RICH, frames, expected, "relation")


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_is_read_and_in_a_mirror_it_is_its_opposite(relation):
    frames = pair(at=PLACES[relation])
    mirror = frames[:, :, ::-1] if relation in ("left of", "right of") else frames[:, ::-1]
    for name in RELATIONS:
        assert related(name, frames)["relation"] == (name == relation)
        assert related(name, mirror)["relation"] == (name == MIRRORED[relation])
    assert related(relation, frames) == {"relation": True, "binding": True, "exact": True}


def test_a_relation_needs_both_colours_once_and_a_clear_place():
    assert not any(related(name, clip(still(RED, 16, 16)))["relation"] for name in RELATIONS)
    swapped = pair(BLUE, RED, at=PLACES["above"])
    assert not related("above", swapped)["relation"] and related("below", swapped)["relation"]
    # Left of it for half of the clip, right of it for the other half.
    turned = np.concatenate(
        [pair(at=PLACES["left of"])[:5], pair(at=PLACES["left of"])[:4, :, ::-1]]
    )
    assert not any(related(name, turned)["relation"] for name in RELATIONS)


def test_a_wrong_shape_breaks_the_binding_and_leaves_the_relation():
    frames = pair(RED, BLUE._replace(shape="triangle"), at=PLACES["above"])
    assert related("above", frames) == {"relation": True, "binding": False, "exact": False}


def test_what_is_left_unsaid_is_not_compared():
    frames = clip(still(RED, 16, 16, 7))
    for open_ in ("colour", "shape", "motion"):
        asked = RED._replace(**{open_: None})
        assert marks(RICH, frames, Expected(objects=(asked,)), "unsaid") == {"said": True}
        wrong = Asked("green", "triangle", "left")._replace(**{open_: None})
        assert marks(RICH, frames, Expected(objects=(wrong,)), "unsaid") == {"said": False}
    assert answers(RICH, frames, "unsaid") == RED._asdict()
    assert set(answers(RICH, pair(), "unsaid").values()) == {"unknown"}


def moving(positions):
    """Show a red circle at some places, one a frame."""
    frames = [clip(still(RED, x, y, 6), frames=2)[:1] for x, y in positions]
    return np.concatenate(frames)


def test_smoothness_is_the_jitter_in_shares_of_the_side():
    steady = [(10 + t, 16) for t in range(9)]
    expected = Expected(objects=(RED._replace(motion="right"),))
    last = -1.0
    for jitter in (0.0, 0.5, 1.0, 2.0):
        shaken = [(x, y + jitter * (-1) ** t) for t, (x, y) in enumerate(steady)]
        seen = measures(RICH, moving(shaken), expected, "motion")
        assert seen["smoothness"] == pytest.approx(jitter / 32, abs=0.004)
        assert seen["smoothness"] > last
        last = seen["smoothness"]
    # It moves right on the whole, but by jumps.
    assert not marks(
        RICH, moving([(10 + 8 * (t > 3) + 2 * (-1) ** t, 16) for t in range(9)]), expected, "motion"
    )["direction"]


def test_an_object_that_turns_into_another_keeps_its_identity_half_of_the_time():
    for other in (RED._replace(colour="blue"), RED._replace(shape="square")):
        first, second = (clip(still(each, 16, 16, 7)) for each in (RED, other))
        turned = np.concatenate([first[:5], second[:4]])
        seen = measures(RICH, turned, Expected(objects=(RED,)), "one object")
        assert seen["identity"] == pytest.approx(5 / 9, abs=0.12)
        assert not marks(RICH, turned, Expected(objects=(RED,)), "one object")["exact"]
        assert measures(RICH, first, Expected(objects=(RED,)), "one object")["identity"] == 1


def test_one_of_two_objects_that_changes_costs_half_of_the_identity():
    changed = np.concatenate([pair()[:5], pair(RED, BLUE._replace(colour="green"))[:4]])
    assert measures(RICH, changed, PAIR, "two objects")["identity"] == pytest.approx(7 / 9, abs=0.1)


def test_a_clip_without_objects_has_nothing_to_measure():
    empty = np.full((9, 32, 32, 3), BACKGROUNDS["grey"], np.uint8)
    assert measures(RICH, empty, PAIR, "two objects") == {}
    assert measures(RICH, empty, Expected(text="LT"), "text") == {"characters": 0}


@pytest.mark.parametrize(
    ("seen", "asked", "score"),
    [
        ("LTX", "LTX", 1.0),
        ("LTX", "LTZ", 2 / 3),
        ("TXL", "LTX", 0.0),
        ("L?X", "LTX", 2 / 3),
        ("LX", "LTX", 2 / 3),
        ("LTXZ", "LTX", 3 / 4),
        ("", "LT", 0.0),
        ("??", "L", 0.0),
    ],
)
def test_characters_are_scored_by_place_or_by_edits(seen, asked, score):
    assert character_score(seen, asked) == pytest.approx(score)


@pytest.mark.parametrize(("size", "per_suite", "crf"), [(32, 12, 8), (48, 2, 10), (64, 2, 10)])
def test_every_reference_of_every_suite_is_read_back_from_its_file(size, per_suite, crf):
    check_references(size, per_suite, crf)


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 48, 64])
@pytest.mark.parametrize("crf", [8, 10])
def test_hundreds_of_references_are_read_back_from_their_files(size, crf):
    check_references(size, 48, crf)


def check_references(size, per_suite, crf):
    world = dataclasses.replace(RICH, size=size)
    for program, expected, suite in reference_programs(world, per_suite=per_suite):
        seen = read(world, through_mp4(render(program), crf=crf), suite)
        for name, mark in marks_of(seen, expected, suite).items():
            assert mark == (name not in LOWER_IS_BETTER), (suite, name, expected)
        found = measures_of(seen, expected, suite)
        assert found.get("smoothness", 0) < 0.01
        assert found.get("identity", 1) == found.get("characters", 1) == 1
