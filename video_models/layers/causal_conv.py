"""Convolutions that never look at a later frame.

A kernel of k frames sees its own frame and the k - 1 before it; before the first frame there are
zeros. A whole clip is convolved at once, which gives exactly what convolving it frame by frame
with the last k - 1 frames remembered would give.

Legend: B batch, C channels, T frames, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalConv3d(nn.Conv3d):
    """A 3-D convolution: zeros around each frame, zeros in front of the clip, nothing behind it.

    Fresh weights see an output's own frame only, so what images teach holds for the first videos.

    Attributes:
        num_past: frames before its own that an output frame depends on.
    """

    def __init__(self, in_dim: int, out_dim: int, kernel_size: int | tuple[int, int, int]):
        time, height, width = kernel_size if isinstance(kernel_size, tuple) else (kernel_size,) * 3
        super().__init__(
            in_dim, out_dim, (time, height, width), padding=(0, height // 2, width // 2)
        )
        self.num_past = time - 1
        with torch.no_grad():
            self.weight[:, :, :-1] = 0
            self.weight[:, :, -1] *= time**0.5  # keeps the variance

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C_out, T, H, W)."""
        if self.kernel_size == (1, 1, 1):
            return pointwise(x, self.weight, self.bias)
        if x.shape[2] == 1:  # every other tap would meet zeros
            return F.conv3d(x, self.weight[:, :, -1:], self.bias, padding=self.padding)
        if self.num_past:
            x = F.pad(x, (0, 0, 0, 0, self.num_past, 0))
        return F.conv3d(x, self.weight, self.bias, padding=self.padding)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Mix the channels of x (B, C, ...) by a 1 x 1 convolution's weight; a matrix product."""
    return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)


def fold_frames(x: Tensor) -> Tensor:
    """Make images of a video: (B, C, T, H, W) -> (B T, C, H, W); free in channels-last memory."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_frames(x: Tensor, batch: int) -> Tensor:
    """Undo `fold_frames`: (B T, C, H, W) -> (B, C, T, H, W)."""
    return torch.unflatten(x, 0, (batch, -1)).transpose(1, 2)
