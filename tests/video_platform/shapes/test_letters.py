"""The font, and where rows of letters are drawn."""

import itertools
import math

import numpy as np
import pytest

from video_platform.shapes.captions import clip_at
from video_platform.shapes.letters import COLUMNS, GLYPHS, ROWS, cell_size, row_coverage, row_of
from video_platform.shapes.program import program_at
from video_platform.shapes.render import render
from video_platform.shapes.texts import place_text
from video_platform.shapes.world import (
    BACKGROUNDS,
    MARGIN,
    MOTIONS,
    PALETTE,
    WorldConfig,
    row_cell,
    row_motions,
)

LETTERS = WorldConfig(num_clips=1, texts=1.0)


def test_any_two_glyphs_differ_in_four_cells_and_each_fills_its_box():
    for first, second in itertools.combinations(GLYPHS, 2):
        assert (GLYPHS[first] != GLYPHS[second]).sum() >= 4, (first, second)
    for glyph in GLYPHS.values():
        assert glyph.shape == (ROWS, COLUMNS)
        # Without an empty column no glyph falls apart into two.
        assert glyph.any(0).all() and glyph.any(1).all()


def test_no_letter_is_a_word_of_a_caption():
    letters = {letter.lower() for letter in GLYPHS}
    for index in range(60):
        _, spelled = clip_at(LETTERS, index)
        assert letters & set(spelled.split())
        _, told = clip_at(WorldConfig(num_clips=1, max_objects=2, relations=1.0), index)
        assert letters.isdisjoint(told.split())


@pytest.mark.parametrize(
    ("size", "cells"),
    [
        (32, [(5, 5), (3, 4), (2, 3), (2, 3)]),
        (48, [(7, 7), (5, 7), (3, 4), (2, 3)]),
        (64, [(10, 10), (7, 10), (4, 6), (3, 4)]),
    ],
)
def test_a_row_is_as_large_as_fits(size, cells):
    assert [row_cell(size, count) for count in (1, 2, 3, 4)] == cells
    assert cell_size(4, width=29, height=30) is None


def test_coverage_is_exact_and_sums_to_the_area():
    (cover,) = row_coverage(
        row_of("LT"), corners=np.array([[2.25, 3.5]]), cell=(2, 3), height=20, width=20
    )
    assert cover.sum() == pytest.approx(2 * 3 * row_of("LT").sum())
    assert cover[4, 2] == pytest.approx(0.75)  # the left quarter of this pixel is outside
    assert cover[3, 3] == pytest.approx(0.5)
    assert cover[10, 6] == 0  # right of the stem of the L


@pytest.mark.parametrize("size", [32, 48, 64])
def test_rows_stay_in_the_frame_and_go_as_far_as_they_say(size):
    world = WorldConfig(num_clips=1, size=size, texts=1.0)
    for index in range(60):
        program = program_at(world, index)
        text = program.text
        assert program.objects == () and text is not None
        assert row_cell(size, len(text.letters)) == (text.cell_width, text.cell_height)
        frames = render(program)
        inked = (frames != BACKGROUNDS["grey"]).any(-1)
        edge = math.ceil(size * MARGIN)
        assert not inked[:, :edge].any() and not inked[:, -edge:].any()
        assert not inked[:, :, :edge].any() and not inked[:, :, -edge:].any()
        assert (np.sign(text.vx), np.sign(text.vy)) == MOTIONS[text.motion]
        # It begins and ends on whole pixels: there the colour is pure.
        for frame in (frames[0], frames[-1]):
            assert {tuple(p) for p in frame.reshape(-1, 3).tolist()} == {
                PALETTE[text.colour],
                BACKGROUNDS["grey"],
            }


def test_four_letters_leave_no_room_beside_them():
    assert row_motions(LETTERS, 4) == ("up", "down", "still")
    assert row_motions(LETTERS, 3) == LETTERS.motions
    with pytest.raises(ValueError, match="no room to move left"):
        place_text(LETTERS, "BFJL", colour="red", motion="left", rng=np.random.default_rng(0))


def test_every_letter_length_colour_and_motion_turns_up():
    texts = [program_at(LETTERS, index).text for index in range(400)]
    assert {len(text.letters) for text in texts} == {1, 2, 3, 4}
    assert {letter for text in texts for letter in text.letters} == set(GLYPHS)
    assert {text.colour for text in texts} == set(LETTERS.colours)
    assert {text.motion for text in texts} == set(LETTERS.motions)
