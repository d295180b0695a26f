"""Changes of resolution: against the slow obvious way, whole and in chunks."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from video_models.layers.memory import Memory
from video_models.layers.resample import (
    Downsample,
    Upsample,
    average_down,
    conv_of_doubled,
    repeat_up,
    whole_groups,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def randomised(layer):
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer


def test_a_convolution_of_doubled_images_needs_no_doubled_images():
    conv = randomised(nn.Conv2d(3, 5, 3, padding=1))
    x = torch.randn(2, 3, 4, 7, requires_grad=True)
    doubled = conv(F.interpolate(x, scale_factor=2, mode="nearest-exact"))
    torch.testing.assert_close(conv_of_doubled(x, conv), doubled, **CLOSE)
    weights = torch.randn_like(doubled)
    slow, fast = (
        torch.autograd.grad((y * weights).sum(), (x, *conv.parameters()))
        for y in (doubled, conv_of_doubled(x, conv))
    )
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("space", [False, True])
def test_going_down_the_first_frame_stays_and_pairs_see_three_frames(space):
    layer = randomised(Downsample(3, space=space, time=True))
    x = torch.randn(1, 3, 7, 4, 4)
    flat = x
    if space:
        conv = layer.resample[1]
        flat = torch.stack([conv(F.pad(frame, (0, 1, 0, 1))) for frame in x.unbind(2)], dim=2)
    expected = torch.cat((flat[:, :, :1], layer.time_conv(flat)), dim=2)
    torch.testing.assert_close(layer(x), expected, **CLOSE)


@pytest.mark.parametrize("kind", [Downsample, lambda *a, **k: Upsample(a[0], 2, **k)])
@pytest.mark.parametrize("sizes", [[1] * 9, [2, 3, 4], [3, 1, 5], [9]])
def test_chunks_give_the_whole_clip(kind, sizes):
    layer = randomised(kind(4, space=True, time=True))
    x, memory = torch.randn(2, 4, 9, 4, 6), Memory()
    with torch.no_grad():
        parts = [layer(chunk, memory) for chunk in x.split(sizes, dim=2)]
    torch.testing.assert_close(torch.cat(parts, dim=2), layer(x), **CLOSE)


def test_averages_group_neighbours_and_zeros_stand_before_the_first_frame():
    layer, x = nn.Identity(), torch.randn(1, 2, 3, 4, 4)
    y = average_down(whole_groups(x, layer, 2, None), 1, time=2, space=2)
    assert y.shape == (1, 1, 2, 2, 2)
    torch.testing.assert_close(y[0, 0, 0, 0, 0], x[0, :, 0, :2, :2].sum() / 16)
    torch.testing.assert_close(y[0, 0, 1, 1, 0], x[0, :, 1:, 2:, :2].mean())


def test_repeating_up_deals_channels_out_to_neighbours():
    x = torch.arange(4.0).view(1, 4, 1, 1, 1)
    y = repeat_up(x, 1, time=2, space=2)  # the shape (1, 1, 2, 2, 2): a channel a pair of pixels
    assert y.flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_frames_without_a_pair_wait():
    layer, memory = nn.Identity(), Memory()
    x = torch.arange(1.0, 6).view(1, 1, 5, 1, 1)
    groups = [whole_groups(frame, layer, 2, memory).flatten().tolist() for frame in x.split(1, 2)]
    assert groups == [[0, 1], [], [2, 3], [], [4, 5]]
