"""Orientation against a pixel-by-pixel reference; the one resampling against exact cases."""

import itertools
import struct
from fractions import Fraction

import numpy as np
import pytest

from video_platform.errors import MediaError
from video_platform.video.geometry import FILTERS, Display, Orientation, read_display_matrix
from video_platform.video.policy import PixelPolicy

ONE = 1 << 16
TURNS = [
    *((a, 0, 0, d) for a, d in itertools.product((1, -1), repeat=2)),
    *((0, b, c, 0) for b, c in itertools.product((1, -1), repeat=2)),
]


def matrix(a, b, c, d):
    """Pack FFmpeg's display matrix: (x, y) is shown at (a x + c y, b x + d y)."""
    return struct.pack("=9i", a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)


def lay(picture, a, b, c, d):
    """Move each pixel to where the matrix shows it, one by one."""
    height, width = picture.shape[:2]
    places = {(x, y): (a * x + c * y, b * x + d * y) for x in range(width) for y in range(height)}
    left, top = (min(place[axis] for place in places.values()) for axis in (0, 1))
    swapped = not a
    shown = np.zeros((width, height, 3) if swapped else (height, width, 3), np.uint8)
    for (x, y), (u, v) in places.items():
        shown[v - top, u - left] = picture[y, x]
    return shown


@pytest.mark.parametrize("turn", TURNS)
def test_every_turn_and_mirror_lays_pixels_where_the_matrix_says(turn):
    picture = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    shown = read_display_matrix(matrix(*turn)).apply(picture)
    np.testing.assert_array_equal(shown, lay(picture, *turn))


def test_rotation_counts_clockwise_and_knows_mirrors():
    turned = [read_display_matrix(matrix(*turn)) for turn in TURNS]
    found = {(turn.rotation, turn.mirrored) for turn in turned}
    assert found == set(itertools.product((0, 90, 180, 270), (False, True)))
    assert read_display_matrix(matrix(0, 1, -1, 0)).rotation == 90  # the top goes right


@pytest.mark.parametrize("data", [matrix(0, 0, 0, 0), matrix(1, 1, -1, 1), b"\0" * 35])
def test_any_other_matrix_is_a_typed_reject(data):
    with pytest.raises(MediaError) as caught:
        read_display_matrix(data)
    assert caught.value.reason == "bad_rotation"


def test_pixel_aspect_stretches_the_width_before_a_turn():
    wide = Display(pixel_aspect=Fraction(64, 45))
    turned = Display(orientation=Orientation(transpose=True), pixel_aspect=Fraction(64, 45))
    assert wide.size(800, 640) == (1138, 640)
    assert turned.size(800, 640) == (640, 1138)


@pytest.mark.parametrize("name", sorted(FILTERS))
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_picture_of_the_right_size_is_left_alone(name, fit):
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    policy = PixelPolicy(frames=1, height=8, width=12, fps=1.0, fit=fit, resize=name)
    np.testing.assert_array_equal(Display().fit(picture, policy), picture)


def test_crop_keeps_the_centre():
    picture = np.zeros((8, 24, 3), np.uint8)
    picture[:, 8:16] = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    policy = PixelPolicy(frames=1, height=8, width=8, fps=1.0)
    np.testing.assert_array_equal(Display().fit(picture, policy), picture[:, 8:16])


def test_pad_keeps_everything_between_black_bars():
    picture = np.full((8, 16, 3), 200, np.uint8)
    policy = PixelPolicy(frames=1, height=16, width=16, fps=1.0, fit="pad")
    fitted = Display().fit(picture, policy)
    assert (fitted[4:12] == 200).all()
    assert (fitted[:4] == 0).all()
    assert (fitted[12:] == 0).all()


def test_box_averages_areas():
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    policy = PixelPolicy(frames=1, height=4, width=4, fps=1.0, resize="box")
    means = picture.reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))
    assert np.abs(Display().fit(picture, policy) - means).max() <= 1


@pytest.mark.parametrize("name", ["bicubic", "bilinear", "lanczos"])
def test_shrinking_fine_stripes_gives_grey_not_an_alias(name):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, ::2] = 255
    policy = PixelPolicy(frames=1, height=8, width=8, fps=1.0, resize=name)
    assert np.abs(Display().fit(picture, policy).astype(int) - 127).max() <= 8


@pytest.mark.parametrize("transpose", [False, True])
def test_oblong_pixels_are_made_square(transpose):
    """A disc stored at half width is round again, turned or not."""
    y, x = np.mgrid[-32:32, -16:16] + 0.5
    stored = np.where(((2 * x) ** 2 + y**2 < 20**2)[..., None], 255, 0).astype(np.uint8)
    stored = stored.repeat(3, axis=2)
    display = Display(orientation=Orientation(transpose=transpose), pixel_aspect=Fraction(2))
    policy = PixelPolicy(frames=1, height=64, width=64, fps=1.0)
    disc = display.fit(stored, policy)[..., 0] > 127
    assert abs(int(disc.any(axis=0).sum()) - 40) <= 2
    assert abs(int(disc.any(axis=1).sum()) - 40) <= 2


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_the_thinnest_pictures_still_fit(fit):
    policy = PixelPolicy(frames=1, height=32, width=48, fps=1.0, fit=fit)
    for shape in [(1, 1, 3), (1, 1000, 3), (1000, 1, 3)]:
        assert Display().fit(np.ones(shape, np.uint8), policy).shape == (32, 48, 3)
