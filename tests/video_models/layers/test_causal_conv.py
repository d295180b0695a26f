"""Causal convolutions: against a plain one over a padded clip, whole and frame by frame."""

import pytest
import torch
import torch.nn.functional as F

from video_models.layers.causal_conv import CausalConv3d
from video_models.layers.channel_norm import ChannelNorm
from video_models.layers.memory import Memory

KERNELS = [1, 3, (1, 3, 3), (3, 1, 1), (5, 3, 3)]


def make_conv(kernel):
    torch.manual_seed(0)
    conv = CausalConv3d(4, 6, kernel)
    torch.nn.init.normal_(conv.weight)
    return conv


def reference(conv, x):
    """Pad with zeros in front and convolve, every tap in its place."""
    padded = F.pad(x, (0, 0, 0, 0, conv.num_past, 0))
    return F.conv3d(padded, conv.weight, conv.bias, padding=conv.padding)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_whole_clips_and_chunks_agree_with_a_padded_convolution(kernel, frames):
    conv, x = make_conv(kernel), torch.randn(2, 4, frames, 5, 6)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(conv(x), reference(conv, x), **close)
    for size in (1, 2, 4):
        memory = Memory()
        with torch.no_grad():
            parts = [conv(chunk, memory) for chunk in x.split(size, dim=2)]
        torch.testing.assert_close(torch.cat(parts, dim=2), reference(conv, x), **close)


def test_what_stands_before_is_applied_to_frames_but_not_to_padding():
    conv, x = make_conv(3), torch.randn(1, 4, 5, 5, 6)
    memory = Memory()

    def shifted(x, *, out=None):
        return x + 1 if out is None else out.copy_(x + 1)

    expected = reference(conv, x + 1)
    torch.testing.assert_close(conv(x, None, shifted), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        parts = [conv(frame, memory, shifted) for frame in x.split(1, dim=2)]
    torch.testing.assert_close(torch.cat(parts, dim=2), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_without_gradients_computes_what_it_does_with_them(layout, dtype):
    norm = ChannelNorm(300, num_axes=3).to(dtype)
    torch.nn.init.uniform_(norm.gamma, 0.5, 1.5)
    x = torch.randn(2, 300, 2, 16, 17).to(dtype).contiguous(memory_format=layout)
    x[0, :, 0, 0, 0] = 0
    expected = norm(x, silu=True)
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
    with torch.no_grad():
        torch.testing.assert_close(norm(x, silu=True), expected, **close)
        room = torch.empty(2, 900, 16, 17, dtype=dtype).contiguous(
            memory_format=torch.channels_last
        )
        slot = room.chunk(3, dim=1)[1][:, :, None]
        norm(x[:, :, :1], silu=True, out=slot)
    torch.testing.assert_close(slot, expected[:, :, :1], **close)
