"""Outlines and drawing."""

import numpy as np
import pytest

from video_platform.shapes.geometry import SHAPES, coverage
from video_platform.shapes.program import program_at
from video_platform.shapes.render import render
from video_platform.shapes.world import BACKGROUNDS, PALETTE, WorldConfig

CENTRE = {"x": np.array([32.3]), "y": np.array([31.6]), "height": 64, "width": 64}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [4.0, 9.5])
def test_every_outline_has_the_area_and_the_centre_of_its_circle(shape, radius):
    (cover,) = coverage(shape, radius=radius, **CENTRE)
    assert cover.sum() == pytest.approx(np.pi * radius**2, rel=0.02)
    ticks = np.arange(64) + 0.5
    assert cover.sum(0) @ ticks / cover.sum() == pytest.approx(32.3, abs=0.05)
    assert cover.sum(1) @ ticks / cover.sum() == pytest.approx(31.6, abs=0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_fills_its_box(shape):
    outline = SHAPES[shape]
    (cover,) = coverage(shape, radius=10.0, **CENTRE)
    rows, columns = np.nonzero(cover.max(1) > 0.3)[0], np.nonzero(cover.max(0) > 0.3)[0]
    assert rows[0] == pytest.approx(31.6 - 10 * outline.above, abs=1.5)
    assert rows[-1] + 1 == pytest.approx(31.6 + 10 * outline.below, abs=1.5)
    assert columns[0] == pytest.approx(32.3 - 10 * outline.half_width, abs=1.5)
    assert columns[-1] + 1 == pytest.approx(32.3 + 10 * outline.half_width, abs=1.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_anti_aliasing_agrees_with_counting_fine_samples(shape):
    scale = 8
    (cover,) = coverage(shape, radius=7.0, **CENTRE)
    fine = {"x": CENTRE["x"] * scale, "y": CENTRE["y"] * scale, "height": 512, "width": 512}
    (samples,) = coverage(shape, radius=7.0 * scale, **fine)
    counted = samples.reshape(64, scale, 64, scale).mean((1, 3))
    # Corners and edges at an angle differ a little.
    assert np.abs(cover - counted).max() < 0.3
    assert np.abs(cover - counted).sum() < 0.02 * counted.sum()


def test_frames_hold_the_palette_on_the_background():
    world = WorldConfig(num_clips=1, max_objects=3, min_objects=3, copies=0.0)
    program = program_at(world, 3)
    frames = render(program)
    assert frames.shape == (9, 32, 32, 3)
    assert frames.dtype == np.uint8
    assert (frames[:, 0, 0] == BACKGROUNDS["grey"]).all()
    for each in program.objects:
        for frame in range(9):
            x, y = int(each.x + frame * each.vx), int(each.y + frame * each.vy)
            assert tuple(frames[frame, y, x]) == PALETTE[each.colour]
