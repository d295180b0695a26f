"""Pixels into channels and back, with shortcuts, in chunks of any size."""

import pytest
import torch

from video_models.layers.causal_conv import CausalConv3d
from video_models.layers.memory import Memory
from video_models.layers.shuffle_resample import (
    ShuffleDownsample,
    ShuffleUpsample,
    group_mean,
    repeat_to,
    to_channels,
    to_pixels,
)


def test_moving_pixels_into_channels_and_back_changes_nothing():
    x = torch.randn(2, 3, 4, 6, 8)
    packed = to_channels(x, time=2, side=2)
    assert packed.shape == (2, 24, 2, 3, 4)
    assert torch.equal(to_pixels(packed, time=2, side=2), x)
    assert torch.equal(packed[:, 3 * 5 : 3 * 6], x[:, :, 1::2, ::2, 1::2])  # later, upper, right


def test_averages_and_repetitions_keep_neighbouring_channels_together():
    x = torch.arange(6.0).view(1, 6, 1, 1, 1)
    assert group_mean(x, 3).flatten().tolist() == [0.5, 2.5, 4.5]
    assert repeat_to(x[:, ::2], 6).flatten().tolist() == [0, 0, 2, 2, 4, 4]


def down(*, space, time):
    torch.manual_seed(0)
    block = (1 + space) ** 2 * (1 + time)
    conv = CausalConv3d(8, 16 // block if space else 8 // block, (3, 3, 3))
    torch.nn.init.normal_(conv.weight, std=0.1)
    return ShuffleDownsample(conv, space=space, time=time)


def up(*, space, time):
    torch.manual_seed(0)
    block = (1 + space) ** 2 * (1 + time)
    conv = CausalConv3d(16, 8 * block if space else 16 * block, (3, 3, 3))
    torch.nn.init.normal_(conv.weight, std=0.1)
    return ShuffleUpsample(conv, space=space, time=time)


@pytest.mark.parametrize(("space", "time"), [(True, True), (True, False), (False, True)])
def test_without_a_convolution_the_shortcut_is_left(space, time):
    layer = down(space=space, time=time)
    torch.nn.init.zeros_(layer.conv.weight)
    torch.nn.init.zeros_(layer.conv.bias)
    y = layer(torch.ones(1, 8, 5, 4, 6))
    assert torch.equal(y, torch.ones(1, 16 if space else 8, 3 if time else 5, *y.shape[3:]))


@pytest.mark.parametrize(("space", "time"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("sizes", [[1] * 5, [2, 3], [4, 1]])
@torch.no_grad()
def test_chunks_give_the_whole_clip_both_ways(space, time, sizes):
    for layer, channels in ((down(space=space, time=time), 8), (up(space=space, time=time), 16)):
        x, memory = torch.randn(1, channels, 5, 4, 6), Memory()
        parts = [layer(chunk, memory) for chunk in x.split(sizes, dim=2)]
        whole = layer(x)
        assert whole.shape[2] == ((3 if channels == 8 else 9) if time else 5)
        torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=1e-5, atol=1e-5)
