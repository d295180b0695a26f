"""Causal changes of resolution in space and time, as Wan makes them.

The first frame is never mixed with others in time: going down it stays as it is and each later
pair of frames becomes one; going up it stays one frame and each later frame becomes two. So
1 + 2n frames and 1 + n frames turn into each other. With a `Memory` a clip may come in chunks of
any size; frames that do not make a pair yet wait in it.

Legend: B batch, C channels, T frames, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.causal_conv import CausalConv3d, fold_frames, pointwise, unfold_frames
from video_models.layers.memory import Memory, begins


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

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return (B, C, T, H / 2, W / 2), (B, C, 1 + (T - 1) / 2, H, W), or both changes."""
        if self.space:
            rows = fold_frames(x).movedim(1, -1)  # padded as they lie in memory
            framed = F.pad(rows, (0, 0, 0, 1, 0, 1)).movedim(-1, 1)
            x = unfold_frames(self.resample(framed), x.shape[0])
        if self.time_conv is None:
            return x
        first = x[:, :, : int(begins(memory, self))]
        window = x if memory is None else memory.waiting(self, x)
        pairs = (window.shape[2] - 1) // 2
        if memory is not None:
            memory.put_back(self, window[:, :, 2 * pairs :])
        if not pairs:
            return first
        # Output k > 0 sees input frames 2k - 2, 2k - 1, 2k.
        windows = torch.cat([window[:, :, at : at + 2 * pairs : 2] for at in range(3)], dim=1)
        weight = self.time_conv.weight.transpose(1, 2)  # (C, 3, C, 1, 1)
        later = pointwise(windows, weight, self.time_conv.bias)
        return torch.cat((first, later), dim=2) if first.shape[2] else later


class Upsample(nn.Module):
    """Double height and width, or the number of frames, or both; then change the channels."""

    def __init__(self, dim: int, out_dim: int, *, space: bool, time: bool):
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), nn.Conv2d(dim, out_dim, 3, padding=1))
        self.space = space
        self.time_conv = CausalConv3d(dim, 2 * dim, (3, 1, 1)) if time else None
        if self.time_conv is not None:
            _start_as_copy(self.time_conv)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return (B, C_out, T, 2 H, 2 W), (B, C_out, 2 T - 1, H, W), or both changes."""
        if self.time_conv is not None:
            # Later frames see zeros where the first frame was.
            first, later = x.tensor_split([int(begins(memory, self))], dim=2)
            if later.shape[2]:
                later = _deal_frames(self.time_conv(later, memory))
                x = torch.cat((first, later), dim=2) if first.shape[2] else later
        frames = fold_frames(x)
        frames = conv_of_doubled(frames, self._conv) if self.space else self.resample(frames)
        return unfold_frames(frames, x.shape[0])

    @property
    def _conv(self) -> nn.Conv2d:
        conv = self.resample[1]
        assert isinstance(conv, nn.Conv2d), f"resample.1 is a {type(conv).__name__}"  # noqa: S101
        return conv


def conv_of_doubled(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Convolve images of twice the size, each pixel repeated, without making them.

    An output pixel sees only 2 x 2 different ones; which, depends on whether its row and its
    column are even. So there are four kernels of 2 x 2, sums of the one of 3 x 3.

    Args:
        x: (B, C, H, W).
        conv: 3 x 3, with zeros around.

    Returns:
        (B, C_out, 2 H, 2 W).
    """
    H, W = x.shape[2:]
    weight, bias = conv.weight, conv.bias
    sums = weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])  # (parity, 2, 3)
    kernels = torch.einsum("apr,bqs,oirs->aboipq", sums, sums, weight).flatten(0, 2)
    y = F.conv2d(x, kernels, None if bias is None else bias.repeat(4), padding=1)
    phases = torch.unflatten(y.movedim(1, -1), -1, (2, 2, -1))  # (B, H + 1, W + 1, 2, 2, C_out)
    out = x.new_empty(len(x), H, 2, W, 2, conv.out_channels, dtype=y.dtype)
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        out[:, :, a, :, b] = phases[:, a : a + H, b : b + W, a, b]
    return out.flatten(3, 4).flatten(1, 2).movedim(-1, 1)


def whole_groups(x: Tensor, layer: nn.Module, time: int, memory: Memory | None) -> Tensor:
    """Return the frames that make whole groups, zeros before the first; the rest waits.

    A clip's first frame makes a group with time - 1 zero frames in front.
    """
    if time == 1:
        return x
    if begins(memory, layer):
        x = F.pad(x, (0, 0, 0, 0, time - 1, 0))
    if memory is None:
        return x
    x = memory.waiting(layer, x)
    frames = x.shape[2] // time * time
    memory.put_back(layer, x[:, :, frames:])
    return x[:, :, :frames]


def average_down(x: Tensor, out_dim: int, *, time: int, space: int) -> Tensor:
    """Shrink by averaging over neighbours and groups of channels; no parameters.

    Args:
        x: (B, C, time n, H, W), see `whole_groups`.
        out_dim: channels of the result; divides C time space^2.
        time: frames that become one.
        space: pixels along a side that become one.
    """
    for axis, factor in ((4, space), (3, space), (2, time)):
        x = torch.unflatten(x, axis, (-1, factor))
    x = x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)  # (B, T', H', W', C time space^2)
    return torch.unflatten(x, 4, (out_dim, -1)).mean(dim=5).movedim(-1, 1)


def repeat_up(x: Tensor, out_dim: int, *, time: int, space: int) -> Tensor:
    """Grow by repeating channels and dealing them out to neighbours; no parameters.

    Undoes the shape of `average_down`; of what a clip's first frame becomes only the last stays.
    """
    repeats = out_dim * time * space * space // x.shape[1]
    x = torch.unflatten(x.repeat_interleave(repeats, dim=1), 1, (out_dim, time, space, space))
    x = x.permute(0, 5, 2, 6, 3, 7, 4, 1)  # (B, T, time, H, space, W, space, C)
    return x.flatten(5, 6).flatten(3, 4).flatten(1, 2).movedim(-1, 1)


def _deal_frames(x: Tensor) -> Tensor:
    """Make two frames of each: (B, 2 C, T, H, W) -> (B, C, 2 T, H, W)."""
    halves = torch.unflatten(x.movedim(1, -1), -1, (2, -1))  # (B, T, H, W, 2, C)
    return halves.movedim(4, 2).flatten(1, 2).movedim(-1, 1)


def _start_as_copy(conv: nn.Conv3d) -> None:
    """Make each output a copy of the last frame in its window: an image model goes on as one."""
    with torch.no_grad():
        conv.weight.zero_()
        copies = conv.out_channels // conv.in_channels
        conv.weight[:, :, -1, 0, 0] = torch.eye(conv.in_channels).repeat(copies, 1)
        if conv.bias is not None:
            conv.bias.zero_()
