"""Changes of resolution by moving pixels into channels and back, with shortcuts without weights.

HunyuanVideo 1.5's, after DC-AE (Chen et al. 2024, arXiv 2410.10733, section 3.2). Going down, a
convolution makes few channels and each block of pixels becomes one position with many; beside it
the input goes the same way and is averaged over groups of channels. Going up is the reverse, with
repetition in place of averages. In time, later frames go in pairs and the first frame stays alone.

Legend: B batch, C channels, T frames, H W pixels, s pixels along a side of a block, t its frames.
"""

import torch
from torch import Tensor, nn

from video_models.layers.causal_conv import CausalConv3d
from video_models.layers.memory import Memory, begins


class ShuffleDownsample(nn.Module):
    """Halve height and width, or the number of frames, or both; channels change."""

    def __init__(self, conv: CausalConv3d, *, space: bool, time: bool):
        """Build it around a convolution; its channels times a block's pixels are the output's."""
        super().__init__()
        self.conv = conv
        self.side, self.time = 1 + space, time

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return (B, C_out, 1 + (T - 1) / 2, H / 2, W / 2), or what of that is halved."""
        first = int(self.time and begins(memory, self))
        h = to_channels(self.conv(x, memory), side=self.side)
        x = to_channels(x, side=self.side)
        y = h[:, :, first:] + group_mean(x[:, :, first:], h.shape[1])
        if not self.time:
            return y
        later = to_channels(_whole_pairs(y, self, memory), time=2)
        if not first:
            return later
        twice = torch.cat((h[:, :, :1],) * 2, dim=1)
        return torch.cat((twice + group_mean(x[:, :, :1], twice.shape[1]), later), dim=2)


class ShuffleUpsample(nn.Module):
    """Double height and width, or the number of frames, or both; channels change."""

    def __init__(self, conv: CausalConv3d, *, space: bool, time: bool):
        """Build it around a convolution with as many channels as a block of the output's has."""
        super().__init__()
        self.conv = conv
        self.side, self.time = 1 + space, time

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return (B, C_out, 2 T - 1, 2 H, 2 W), or what of that is doubled."""
        first = int(self.time and begins(memory, self))
        h = self.conv(x, memory)
        y = to_pixels(h[:, :, first:], time=1 + self.time, side=self.side)
        dim = y.shape[1]
        y = y + repeat_to(to_pixels(x[:, :, first:], time=1 + self.time, side=self.side), dim)
        if not first:
            return y
        alone = to_pixels(h[:, :, :1], side=self.side)[:, :dim]  # the other half is not used
        return torch.cat((alone + repeat_to(to_pixels(x[:, :, :1], side=self.side), dim), y), dim=2)


def to_channels(x: Tensor, *, time: int = 1, side: int = 1) -> Tensor:
    """Make one position of each block: (B, C, t T, s H, s W) -> (B, t s s C, T, H, W)."""
    for axis, factor in ((4, side), (3, side), (2, time)):
        x = torch.unflatten(x, axis, (-1, factor))
    return x.permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4).movedim(-1, 1)


def to_pixels(x: Tensor, *, time: int = 1, side: int = 1) -> Tensor:
    """Undo `to_channels`: (B, t s s C, T, H, W) -> (B, C, t T, s H, s W)."""
    x = torch.unflatten(x, 1, (time, side, side, -1))
    x = x.permute(0, 5, 1, 6, 2, 7, 3, 4)  # (B, T, t, H, s, W, s, C)
    return x.flatten(5, 6).flatten(3, 4).flatten(1, 2).movedim(-1, 1)


def group_mean(x: Tensor, dim: int) -> Tensor:
    """Average neighbouring channels, so that `dim` are left."""
    return torch.unflatten(x.movedim(1, -1), -1, (dim, -1)).mean(dim=-1).movedim(-1, 1)


def repeat_to(x: Tensor, dim: int) -> Tensor:
    """Repeat each channel, so that there are `dim`."""
    return x.movedim(1, -1).repeat_interleave(dim // x.shape[1], dim=-1).movedim(-1, 1)


def _whole_pairs(x: Tensor, layer: nn.Module, memory: Memory | None) -> Tensor:
    """Return frames that make whole pairs; a single one waits in the memory."""
    if memory is None:
        return x
    x = memory.waiting(layer, x)
    frames = x.shape[2] // 2 * 2
    memory.put_back(layer, x[:, :, frames:])
    return x[:, :, :frames]
