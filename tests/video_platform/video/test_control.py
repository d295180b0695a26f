"""Control maps against slow and obvious ones."""

import numpy as np
import pytest

from video_platform.video.control import METHODS, control_map, edges, gray


def noise(height=6, width=8, frames=2):
    shape = (frames, height, width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_gray_is_the_luma_of_bt709():
    frame = noise()[0]
    exact = frame @ np.array([0.2126, 0.7152, 0.0722])
    assert np.abs(gray(frame) - exact).max() < 1.5
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert gray(ends).tolist() == [[0, 255]]


def test_edges_are_those_of_sobel():
    from scipy.ndimage import sobel

    frame = noise()[0]
    luma = gray(frame).astype(float)
    across, along = (sobel(luma, axis=axis, mode="nearest") for axis in (1, 0))
    expected = np.minimum(np.floor(np.hypot(across, along) / 2 + 0.5), 255)
    assert np.array_equal(edges(frame), expected)


def test_a_plain_frame_has_no_edges_and_a_step_has_one():
    frame = np.full((5, 6, 3), 90, np.uint8)
    assert not edges(frame).any()
    frame[:, 3:] = 130
    assert edges(frame)[2].tolist() == [0, 0, 80, 80, 0, 0]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_smaller_map_holds_the_means_of_squares(name):
    clip = noise()
    whole, small = (control_map(clip, METHODS[name], factor) for factor in (1, 2))
    assert whole.shape == (2, 6, 8) and whole.dtype == np.uint8
    mean = whole[1, 2:4, 4:6].astype(int).sum() / 4
    assert small.shape == (2, 3, 4)
    assert small[1, 1, 2] == int(mean + 0.5)


def test_a_factor_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="6 x 8 do not divide by factor 4"):
        control_map(noise(), gray, 4)
