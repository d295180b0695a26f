"""Colour and contrast of clips where they are known, and against scikit-image."""

import pytest
import torch
from skimage.color import rgb2hsv

from video_models.metrics.appearance import clipped_share, contrast, saturation


def clip():
    return torch.rand(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_gray_has_no_saturation_and_pure_colours_all():
    gray = torch.linspace(-1, 1, 12).view(1, 1, 3, 2, 2).expand(1, 3, 3, 2, 2)
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1, 1).expand(1, 3, 2, 2, 2)
    assert saturation(gray).item() == 0
    assert saturation(red).item() == 1


def test_saturation_is_value_times_saturation_of_scikit_image():
    hsv = rgb2hsv(((clip() + 1) / 2).permute(0, 2, 3, 4, 1).numpy())
    expected = torch.from_numpy((hsv[..., 1] * hsv[..., 2]).reshape(2, -1).mean(1))
    torch.testing.assert_close(saturation(clip()).double(), expected.double(), atol=1e-4, rtol=0)


def test_values_at_the_ends_are_clipped():
    video = torch.zeros(1, 3, 1, 2, 2)
    video[0, 0] = 1
    video[0, 1, 0, 0] = -1
    assert clipped_share(video).item() == pytest.approx(0.5)


def test_contrast_is_the_deviation_of_the_luminance():
    half = torch.full((1, 3, 2, 4, 4), -1.0)
    half[..., :2] = 1
    assert contrast(half).item() == pytest.approx(0.5)
    assert contrast(torch.zeros(1, 3, 2, 4, 4)).item() == 0


@pytest.mark.parametrize("measure", [saturation, clipped_share, contrast])
def test_anything_but_colour_video_is_an_error(measure):
    with pytest.raises(ValueError, match="give"):
        measure(torch.zeros(1, 1, 2, 4, 4))
