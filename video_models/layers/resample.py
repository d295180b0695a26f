"""Causal changes of resolution in space and time, as Wan makes them.

The first frame is never mixed with others in time: going down it stays as it is and each later
pair of frames becomes one; going up it stays one frame and each later frame becomes two. So
1 + 2n frames and 1 + n frames turn into each other. Whole clips are computed at once.

Legend: B batch, C channels, T frames, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.causal_conv import CausalConv3d, fold_frames, unfold_frames


class Downsample(nn.Module):
    """Halve height and width, or the number of frames, or both; channels stay."""

    def __init__(self, dim: int, *, space: bool, time: bool):
        super().__init__()
        if space:
            self.resample = nn.Sequential(nn.Identity(), nn.Conv2d(dim, dim, 3, stride=2))
        self.space = space
        self.time_conv = nn.Conv3d(dim, dim, (3, 1, 1), stride=(2, 1, 1)) if time else None
        if self.time_conv is not None:
            _start_as_copy(self.time_conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, T, H / 2, W / 2), (B, C, 1 + (T - 1) / 2, H, W), or both changes."""
        if self.space:
            framed = F.pad(fold_frames(x), (0, 1, 0, 1))
            x = unfold_frames(self.resample(framed), x.shape[0])
        if self.time_conv is None or x.shape[2] == 1:
            return x
        # Output k > 0 sees input frames 2k - 2, 2k - 1, 2k.
        return torch.cat((x[:, :, :1], self.time_conv(x)), dim=2)


class Upsample(nn.Module):
    """Double height and width, or the number of frames, or both; then change the channels."""

    def __init__(self, dim: int, out_dim: int, *, space: bool, time: bool):
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), nn.Conv2d(dim, out_dim, 3, padding=1))
        self.space = space
        self.time_conv = CausalConv3d(dim, 2 * dim, (3, 1, 1)) if time else None
        if self.time_conv is not None:
            _start_as_copy(self.time_conv)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C_out, T, 2 H, 2 W), (B, C_out, 2 T - 1, H, W), or both changes."""
        if self.time_conv is not None and x.shape[2] > 1:
            # Later frames see zeros where the first frame was.
            pairs = torch.unflatten(
                self.time_conv(x[:, :, 1:]), 1, (2, -1)
            )  # (B, 2, C, T - 1, H, W)
            later = pairs.movedim(1, 3).flatten(2, 3)  # (B, C, 2 (T - 1), H, W)
            x = torch.cat((x[:, :, :1], later), dim=2)
        frames = fold_frames(x)
        if self.space:
            frames = F.interpolate(frames, scale_factor=2, mode="nearest-exact")
        return unfold_frames(self.resample(frames), x.shape[0])


def _start_as_copy(conv: nn.Conv3d) -> None:
    """Make each output a copy of the last frame in its window: an image model goes on as one."""
    with torch.no_grad():
        conv.weight.zero_()
        copies = conv.out_channels // conv.in_channels
        conv.weight[:, :, -1, 0, 0] = torch.eye(conv.in_channels).repeat(copies, 1)
        if conv.bias is not None:
            conv.bias.zero_()


def average_down(x: Tensor, out_dim: int, *, time: int, space: int) -> Tensor:
    """Shrink by averaging over neighbours and groups of channels; no parameters.

    A zero frame in front fills up the first group of frames.

    Args:
        x: (B, C, 1 + time n, H, W), or (B, C, T, H, W) for time = 1.
        out_dim: channels of the result; divides C time space^2.
        time: frames that become one.
        space: pixels along a side that become one.
    """
    x = F.pad(x, (0, 0, 0, 0, time - 1, 0)) if time > 1 else x
    for axis, factor in ((4, space), (3, space), (2, time)):
        x = torch.unflatten(x, axis, (-1, factor))
    x = x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)  # (B, C time space^2, T', H', W')
    return torch.unflatten(x, 1, (out_dim, -1)).mean(dim=2)


def repeat_up(x: Tensor, out_dim: int, *, time: int, space: int) -> Tensor:
    """Grow by repeating channels and dealing them out to neighbours; no parameters.

    Undoes the shape of `average_down`: the first time - 1 frames are dropped.
    """
    repeats = out_dim * time * space * space // x.shape[1]
    x = torch.unflatten(x.repeat_interleave(repeats, dim=1), 1, (out_dim, time, space, space))
    x = x.permute(0, 1, 5, 2, 6, 3, 7, 4)  # (B, C, T, time, H, space, W, space)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)[:, :, time - 1 :]
