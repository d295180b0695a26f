"""Programs and captions: what is drawn follows from (seed, index) and keeps to the rules."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_platform.shapes.captions import caption, clip_at
from video_platform.shapes.geometry import SHAPES
from video_platform.shapes.program import GAP, Program, program_at
from video_platform.shapes.world import (
    MARGIN,
    MOTIONS,
    Combination,
    WorldConfig,
    held_out_combinations,
)

SMALL = WorldConfig(num_clips=1)
CROWDED = WorldConfig(num_clips=1, max_objects=3)

worlds = st.builds(
    WorldConfig,
    num_clips=st.just(1),
    seed=st.integers(0, 2**32),
    size=st.sampled_from([32, 48, 64]),
    frames=st.sampled_from([5, 9, 17]),
    max_objects=st.integers(1, 4),
    shapes=st.sampled_from([("circle",), ("square", "triangle"), tuple(SHAPES)]),
)


def boxes_of(program):
    """Return the box of each object in each frame: left, top, right, bottom (T, count, 4)."""
    frames = []
    for frame in range(program.frames):
        row = []
        for each in program.objects:
            outline = SHAPES[each.shape]
            x, y = each.x + frame * each.vx, each.y + frame * each.vy
            row.append(
                (
                    x - outline.half_width * each.radius,
                    y - outline.above * each.radius,
                    x + outline.half_width * each.radius,
                    y + outline.below * each.radius,
                )
            )
        frames.append(row)
    return np.array(frames)


@settings(max_examples=60, deadline=None)
@given(world=worlds, index=st.integers(0, 2**40))
def test_objects_stay_in_the_frame_apart_and_on_course(world, index):
    program = program_at(world, index)
    boxes, rounding = boxes_of(program), 0.02
    edge = MARGIN * world.size - rounding
    assert boxes.min() >= edge
    assert boxes.max() <= world.size - edge
    for a in range(len(program.objects)):
        for b in range(a):
            first, second = boxes[:, a], boxes[:, b]
            gap = np.maximum(first[:, :2] - second[:, 2:], second[:, :2] - first[:, 2:]).max(-1)
            assert gap.min() >= GAP * world.size - rounding
    for each in program.objects:
        assert (np.sign(each.vx), np.sign(each.vy)) == MOTIONS[each.motion]


@given(world=worlds, index=st.integers(0, 2**40))
@settings(max_examples=20, deadline=None)
def test_a_program_survives_json(world, index):
    program = program_at(world, index)
    assert Program.from_json(json.loads(json.dumps(program.to_json()))) == program


def test_json_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="not a program"):
        Program.from_json({"size": 32})


def test_a_clip_depends_on_seed_and_index_alone():
    assert clip_at(CROWDED, 5) == clip_at(WorldConfig(num_clips=9, max_objects=3), 5)
    assert clip_at(CROWDED, 5) != clip_at(CROWDED, 6)
    assert clip_at(CROWDED, 5) != clip_at(WorldConfig(num_clips=1, max_objects=3, seed=1), 5)


def test_training_clips_never_show_a_withheld_combination_and_withheld_clips_do():
    withheld = set(held_out_combinations(CROWDED))
    for index in range(300):
        assert not withheld & set(program_at(CROWDED, index).combinations)
        assert withheld & set(program_at(CROWDED, index, held_out=True).combinations)


def test_withholding_nothing_leaves_no_withheld_clip():
    with pytest.raises(ValueError, match="held_out"):
        program_at(WorldConfig(num_clips=1, held_out=0), 0, held_out=True)


def test_every_trained_combination_and_count_turns_up():
    shown = [program_at(CROWDED, index) for index in range(600)]
    assert {len(program.objects) for program in shown} == {1, 2, 3}
    assert len({each for program in shown for each in program.combinations}) == 79
    alike = [len(set(p.combinations)) == 1 for p in shown if len(p.objects) > 1]
    assert 0.4 < np.mean(alike) < 0.6


def test_area_does_not_tell_the_shapes_apart():
    by_shape = {}
    for index in range(600):
        (each,) = program_at(SMALL, index).objects
        by_shape.setdefault(each.shape, []).append(each.radius)
    means = [np.mean(radii) for radii in by_shape.values()]
    assert max(means) - min(means) < 0.1


RED = Combination("red", "circle", "right")
BLUE = Combination("blue", "square", "still")


@pytest.mark.parametrize(
    ("combinations", "text"),
    [
        ([RED], "a red circle moves right"),
        ([BLUE], "a blue square stays still"),
        ([RED, RED], "two red circles move right"),
        ([BLUE] * 3, "three blue squares stay still"),
        ([Combination("cyan", "cross", "up")] * 4, "four cyan crosses move up"),
        ([RED, BLUE], "a red circle moves right and a blue square stays still"),
        (
            [RED, BLUE, RED],
            "a red circle moves right, a blue square stays still and a red circle moves right",
        ),
    ],
)
def test_a_caption_says_what_a_person_would(combinations, text):
    assert caption(combinations) == text


def test_captions_vary_in_words_and_not_in_meaning():
    texts = {clip_at(SMALL, index)[1] for index in range(300)}
    assert any("is moving" in text for text in texts)
    assert any(" goes " in text for text in texts)
    plain = WorldConfig(num_clips=1, captions="plain")
    for index in range(100):
        program, text = clip_at(plain, index)
        assert text == caption(program.combinations)
        assert clip_at(SMALL, index)[0] == program
