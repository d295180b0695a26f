"""Changes of resolution by one convolution: with a stride down, over repeated pixels up.

HunyuanVideo's (Kong et al. 2024, arXiv 2412.03603). The first frame is one on both sides, so 1 + 2n
frames and 1 + n frames turn into each other.

Legend: B batch, C channels, T frames, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.causal_conv import fold_frames
from video_models.layers.edge_conv import EdgeConv3d, windows
from video_models.layers.memory import Memory, begins


class StridedDownsample(nn.Module):
    """Halve what the stride of a convolution halves."""

    def __init__(self, conv: EdgeConv3d):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return (B, C, 1 + (T - 1) / 2, H / 2, W / 2), or what of that is halved."""
        y: Tensor = self.conv(x, memory)
        return y


class RepeatUpsample(nn.Module):
    """Repeat pixels along space, time or both, all but the first frame in time; then convolve.

    The repeated pixels are not made. Under a kernel of three lie only two different ones along each
    axis that is doubled; which, depends on whether the output is the first or the second of its
    two. So there is a kernel of two, sums of the one of three, for each kind of output.
    """

    def __init__(self, conv: EdgeConv3d, *, space: bool, time: bool):
        """Build it around a convolution that spans three rows, columns and, with time, frames."""
        super().__init__()
        self.conv = conv
        self.space, self.time = space, time

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return (B, C_out, 2 T - 1, 2 H, 2 W), or what of that is doubled."""
        B, _, T, H, W = x.shape
        drop = int(self.time and begins(memory, self))
        kernels = self._kernels()  # (time, height, width, C_out, C, k, h, w)
        past, kinds = kernels.shape[5] - 1, kernels.shape[:3]
        images = fold_frames(windows(self.conv.surround(x), self.conv, memory, past=past, step=1))
        weight = kernels.flatten(0, 3).transpose(1, 2).flatten(1, 2)  # (kinds C_out, k C, h, w)
        bias = self.conv.bias
        y = F.conv2d(images, weight, None if bias is None else bias.repeat(kinds.numel()))
        y = torch.unflatten(y.movedim(1, -1), -1, (*kinds, -1))
        y = torch.unflatten(y, 0, (B, T))  # (B, T, H + 1, W + 1, time, height, width, C_out)
        out = y.new_empty(B, T, kinds[0], H, kinds[1], W, kinds[2], y.shape[-1])
        for a in range(kinds[1]):
            for b in range(kinds[2]):
                part = y[:, :, a : a + H, b : b + W, :, a, b]  # (B, T, H, W, time, C_out)
                out[:, :, :, :, a, :, b] = part.movedim(4, 2)
        out = out.flatten(5, 6).flatten(3, 4).flatten(1, 2)[:, drop:]
        return out.movedim(-1, 1)

    def _kernels(self) -> Tensor:
        """Return the kernel of each kind of output, by its place along time, height and width."""
        weight = self.conv.weight
        pair = weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])  # (2, 2, 3)
        same = [
            torch.eye(size, dtype=weight.dtype, device=weight.device)[None]
            for size in weight.shape[2:]
        ]
        time = (
            pair.flip(0) if self.time else same[0]
        )  # nothing behind: the second sees itself twice
        rows, columns = (pair, pair) if self.space else same[1:]
        return torch.einsum("apx,bqy,crz,oixyz->abcoipqr", time, rows, columns, weight)
