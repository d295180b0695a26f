"""Repeated pixels that are never made give what convolving them gives."""

import pytest
import torch

from tests.video_models.layers.test_edge_conv import plainly
from video_models.layers.edge_conv import EdgeConv3d
from video_models.layers.memory import Memory
from video_models.layers.strided_resample import RepeatUpsample, StridedDownsample

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def up(*, space, time, replicate, kernel=(3, 3, 3)):
    torch.manual_seed(0)
    conv = EdgeConv3d(4, 6, kernel, replicate=replicate)
    torch.nn.init.normal_(conv.weight, std=0.1)
    return RepeatUpsample(conv, space=space, time=time)


def repeated(layer, x):
    """Make all pixels, the first frame once, and convolve them."""
    if layer.space:
        x = x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
    if layer.time:
        x = torch.cat((x[:, :, :1], x[:, :, 1:].repeat_interleave(2, dim=2)), dim=2)
    return plainly(layer.conv, x)


@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize(("space", "time"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("frames", [1, 4])
def test_it_convolves_pixels_that_it_does_not_make(space, time, replicate, frames):
    layer = up(space=space, time=time, replicate=replicate)
    x = torch.randn(2, 4, frames, 3, 5)
    torch.testing.assert_close(layer(x), repeated(layer, x), **CLOSE)


def test_kernels_of_one_frame_double_space_alone():
    layer = up(space=True, time=False, replicate=True, kernel=(1, 3, 3))
    x = torch.randn(1, 4, 3, 3, 5)
    torch.testing.assert_close(layer(x), repeated(layer, x), **CLOSE)


def test_gradients_are_those_of_the_pixels_made():
    layer, x = up(space=True, time=True, replicate=True), torch.randn(1, 4, 3, 3, 5)
    weights = torch.randn(1, 6, 5, 6, 10)
    ours, theirs = (
        torch.autograd.grad((call(x) * weights).sum(), layer.conv.weight)
        for call in (layer, lambda x: repeated(layer, x))
    )
    torch.testing.assert_close(*ours, *theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_chunks_give_the_whole_clip_both_ways():
    layer, memory = up(space=True, time=True, replicate=True), Memory()
    x = torch.randn(1, 4, 4, 3, 5)
    parts = [layer(chunk, memory) for chunk in x.split([1, 2, 1], dim=2)]
    assert [part.shape[2] for part in parts] == [1, 4, 2]
    torch.testing.assert_close(torch.cat(parts, dim=2), layer(x), **CLOSE)
    down = StridedDownsample(EdgeConv3d(4, 4, (3, 3, 3), replicate=True, stride=(2, 2, 2)))
    assert down(torch.randn(1, 4, 7, 6, 8)).shape == (1, 4, 4, 3, 4)
