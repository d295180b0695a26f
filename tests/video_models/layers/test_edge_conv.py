"""Causal convolutions that go on with the first frame and with edge pixels."""

import pytest
import torch
import torch.nn.functional as F

from video_models.layers.edge_conv import EdgeConv3d
from video_models.layers.group_norm import GroupNorm
from video_models.layers.memory import Memory

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SHAPES = [
    ((3, 3, 3), (1, 1, 1)),
    ((3, 3, 3), (2, 2, 2)),
    ((3, 3, 3), (1, 2, 2)),
    ((3, 3, 3), (2, 1, 1)),
    ((1, 3, 3), (1, 1, 1)),
    ((1, 3, 3), (1, 2, 2)),
]
"""Kernels and strides."""


def make(kernel=(3, 3, 3), **settings):
    torch.manual_seed(0)
    conv = EdgeConv3d(4, 6, kernel, **settings)
    torch.nn.init.normal_(conv.weight, std=0.1)
    return conv


def plainly(conv, x):
    """Pad by hand, then convolve."""
    time, rows, columns = (size - 1 for size in conv.kernel_size)
    sides = (columns // 2, columns // 2, rows // 2, rows // 2)
    x = F.pad(x, (*sides, 0, 0), mode="replicate" if conv.replicate else "constant")
    x = torch.cat([x[:, :, :1]] * time + [x], dim=2)
    return F.conv3d(x, conv.weight, conv.bias, stride=conv.stride)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), SHAPES)
def test_it_is_a_convolution_of_the_padded_clip(kernel, stride, replicate, gradients):
    conv, x = make(kernel, replicate=replicate, stride=stride), torch.randn(2, 4, 5, 6, 4)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(conv(x), plainly(conv, x), **CLOSE)


@pytest.mark.parametrize(("kernel", "stride"), SHAPES)
@pytest.mark.parametrize("sizes", [[1] * 9, [3, 1, 5], [2, 7], [9]])
@torch.no_grad()
def test_chunks_give_the_whole_clip(kernel, stride, sizes):
    conv, memory = make(kernel, replicate=True, stride=stride), Memory()
    norm = GroupNorm(4, num_groups=2, per_frame=True)
    x = torch.randn(2, 4, 9, 6, 4)
    parts = [conv(chunk, memory, norm) for chunk in x.split(sizes, dim=2)]
    parts = [part for part in parts if part.shape[2]]
    torch.testing.assert_close(torch.cat(parts, dim=2), plainly(conv, norm(x)), **CLOSE)


def test_a_still_picture_stays_one():
    conv, image = make(replicate=True), torch.randn(1, 4, 1, 5, 5)
    moving = conv(image.expand(-1, -1, 4, -1, -1))
    torch.testing.assert_close(moving, conv(image).expand_as(moving), **CLOSE)


def test_a_stride_that_leaves_frames_out_is_refused():
    with pytest.raises(
        ValueError, match="a stride of 2 over kernels of 1 frames leaves frames out"
    ):
        make((1, 3, 3), replicate=True, stride=(2, 2, 2))
