"""Rows of letters are read back from files, and nothing that is no letter is read as one."""

import dataclasses
import itertools

import numpy as np
import pytest

from pipelines.clip import CRF as CLIP_CRF
from tests.video_platform.shapes.filming import DEMO, RICH, through_mp4, worsen
from video_platform.shapes.follow import UNKNOWN
from video_platform.shapes.letters import GLYPHS, row_coverage, row_of
from video_platform.shapes.program import program_at, text_program
from video_platform.shapes.render import render
from video_platform.shapes.spell import UNREAD, spell
from video_platform.shapes.texts import place_text
from video_platform.shapes.world import BACKGROUNDS, PALETTE, row_motions
from video_platform.shapes.write import CRF

LETTERS = list(GLYPHS)
OUTSIDERS = {
    "A": ".#. #.# ### #.# #.#",
    "C": "### #.. #.. #.. ###",
    "D": "##. #.# #.# #.# ##.",
    "E": "### #.. ##. #.. ###",
    "H": "#.# #.# ### #.# #.#",
    "K": "#.# #.# ##. #.# #.#",
    "N": "### #.# #.# #.# #.#",
    "O": "### #.# #.# #.# ###",
    "P": "### #.# ### #.. #..",
    "U": "#.# #.# #.# #.# ###",
    "a bar": "### ### ### ### ###",
    "L in a mirror": "..# ..# ..# ..# ###",
    "S in a mirror": "### ..# ### #.. ###",
}


def cells_of(picture):
    return np.array([[cell == "#" for cell in row] for row in picture.split()], float)


def written(letters, *, size=32, colour="blue", motion="still", seed=0):
    world = dataclasses.replace(RICH, size=size)
    rng = np.random.default_rng(seed)
    text = place_text(world, letters, colour=colour, motion=motion, rng=rng)
    return render(text_program(world, text))


def drawn(cells, *, colour="blue", shift=0.0, frames=9):
    """Show a row of cells, some of them faint, in cells of 2 x 3 pixels of a frame of 32."""
    corners = np.tile([[1.0 + shift, 6.0 + shift]], (frames, 1))
    covered = row_coverage(cells > 0, corners=corners, cell=(2, 3), height=32, width=32)
    strength = sum(
        level * row_coverage(cells == level, corners=corners, cell=(2, 3), height=32, width=32)
        for level in np.unique(cells[cells > 0])
    )
    assert (strength <= covered + 1e-6).all()
    ground, ink = np.array(BACKGROUNDS["grey"], float), np.array(PALETTE[colour], float)
    return (ground + strength[..., None] * (ink - ground)).round().astype(np.uint8)


def row(*glyphs):
    gap = np.zeros((5, 1))
    return np.concatenate([part for glyph in glyphs for part in (glyph, gap)][:-1], axis=1)


def glyph(letter):
    return GLYPHS[letter].astype(float)


def read(frames):
    return spell(RICH, frames).letters


@pytest.mark.parametrize("size", [32, 48, 64])
@pytest.mark.parametrize("count", [1, 4])
def test_no_letter_is_taken_for_another_in_any_place_of_a_row(size, count):
    confusion = np.zeros((len(LETTERS), len(LETTERS)), int)
    colours = itertools.cycle(PALETTE)
    motions = itertools.cycle(row_motions(dataclasses.replace(RICH, size=size), count))
    for first in range(len(LETTERS)):
        asked = "".join(LETTERS[(first + 3 * place) % len(LETTERS)] for place in range(count))
        frames = written(asked, size=size, colour=next(colours), motion=next(motions), seed=first)
        seen = read(through_mp4(frames, crf=CLIP_CRF))
        assert len(seen) == count and UNREAD not in seen, (asked, seen)
        for a, b in zip(asked, seen, strict=True):
            confusion[LETTERS.index(a), LETTERS.index(b)] += 1
    assert (confusion == np.diag([count] * len(LETTERS))).all()


@pytest.mark.parametrize("crf", [CRF, CLIP_CRF])
def test_every_row_is_read_back_from_its_file(crf):
    world = dataclasses.replace(RICH, texts=1.0, seed=crf)
    for index in range(25):
        program = program_at(world, index)
        seen = spell(world, through_mp4(render(program), crf=crf))
        asked = program.text
        assert (seen.letters, seen.colour, seen.motion) == (
            asked.letters,
            asked.colour,
            asked.motion,
        ), index


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 48, 64])
def test_hundreds_of_rows_are_read_back_from_their_files(size):
    world = dataclasses.replace(RICH, texts=1.0, size=size, seed=size)
    for index in range(400):
        program = program_at(world, index)
        seen = spell(world, through_mp4(render(program), crf=(CRF, CLIP_CRF)[index % 2]))
        asked = program.text
        assert dataclasses.astuple(seen) == (asked.letters, asked.colour, asked.motion), index


def test_an_autoencoders_blur_and_noise_hide_no_letter():
    world = dataclasses.replace(RICH, texts=1.0, seed=3)
    for index in range(20):
        program = program_at(world, index)
        soft = worsen(render(program), blur=0.6, noise=8, seed=index)
        assert read(soft) == program.text.letters, index


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_a_letter_with_one_cell_wrong_is_no_letter(shift):
    wrong = []
    for letter in LETTERS:
        for place in np.ndindex(5, 3):
            cells = glyph(letter)
            cells[place] = 1 - cells[place]
            # Where a column or row at the rim goes, another size or no one glyph is left.
            if cells.any(0).all() and cells.any(1).all():
                wrong.append(cells)
    assert len(wrong) > 100
    for start in range(0, len(wrong) - 3, 4):
        seen = read(drawn(row(*wrong[start : start + 4]), shift=shift))
        assert not set(seen) & set(LETTERS), (start, seen)


@pytest.mark.parametrize("name", OUTSIDERS)
def test_what_is_no_letter_of_the_world_is_unread(name):
    assert read(drawn(row(cells_of(OUTSIDERS[name]), glyph("L")))) == UNREAD + "L"


def test_a_letter_that_the_world_does_not_know_is_unread():
    world = dataclasses.replace(RICH, letters="LT")
    assert spell(world, drawn(row(glyph("L"), glyph("Z"), glyph("T")))).letters == "L?T"


def test_merged_letters_are_no_letters():
    touching = np.concatenate([glyph("L"), glyph("T")], axis=1)
    seen = read(drawn(touching))
    assert not set(seen) & set(LETTERS) and seen


@pytest.mark.parametrize("level", [0.3, 0.4, 0.6])
def test_a_faded_letter_is_unread_and_still_counts(level):
    for faded in range(3):
        glyphs = [glyph(letter) for letter in "LTX"]
        glyphs[faded] *= level
        seen = read(drawn(row(*glyphs)))
        assert UNREAD in seen
        assert seen.replace(UNREAD, "") == "LTX".replace("LTX"[faded], "")


@pytest.mark.parametrize("letter", LETTERS)
def test_a_doubled_letter_is_unread(letter):
    shown = drawn(row(glyph(letter))).astype(float)
    for offset in ((0, 2), (3, 1)):
        ghost = np.roll(shown, offset, axis=(1, 2))
        both = np.where(np.abs(ghost - 128) > np.abs(shown - 128), ghost, shown)
        assert letter not in read(both.astype(np.uint8)), offset


def test_a_letter_that_becomes_another_is_unread():
    frames = np.concatenate([written("LT")[:5], written("LF")[:4]])
    assert read(frames) == "L" + UNREAD


def test_letters_that_come_and_go_are_unread():
    frames = written("LT")
    frames[2:7] = BACKGROUNDS["grey"]
    assert read(frames) == ""
    frames = np.concatenate([written("LTX")[:5], written("LTXZ")[:4]])
    assert set(read(frames)) == {UNREAD}


def test_letters_of_two_colours_have_no_colour():
    frames = written("LTXZ", colour="red")
    frames[..., 16:, :] = written("LTXZ", colour="yellow")[..., 16:, :]
    seen = spell(RICH, through_mp4(frames, crf=CLIP_CRF))
    assert (seen.letters, seen.colour) == ("LTXZ", UNKNOWN)


def test_letters_that_change_their_colour_or_have_one_of_no_name_have_no_colour():
    red, yellow = (written("LTX", colour=name) for name in ("red", "yellow"))
    assert spell(RICH, red).colour == "red"
    assert spell(RICH, np.concatenate([red[:5], yellow[:4]])).colour == UNKNOWN
    orange = ((red.astype(int) + yellow) // 2).astype(np.uint8)
    assert spell(RICH, orange).colour == UNKNOWN


def test_a_reversed_row_moves_the_other_way():
    seen = spell(RICH, written("LT", motion="right")[::-1])
    assert (seen.letters, seen.motion) == ("LT", "left")


def test_clips_of_objects_and_empty_clips_show_no_letter():
    for index in range(30):
        assert not set(read(render(program_at(DEMO, index)))) & set(LETTERS)
    noise = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    assert not set(read(noise)) & set(LETTERS)
    assert read(np.full((9, 32, 32, 3), 128, np.uint8)) == ""


def test_a_row_is_read_in_frames_of_another_size():
    assert spell(RICH, written("LTX", size=64)).letters == "LTX"
    assert row_of("LTX").shape == (5, 11)
