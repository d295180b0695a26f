"""Convolutions that never look at a later frame.

A kernel of k frames sees its own frame and the k - 1 before it; before the first frame there are
zeros. A clip may come whole or in chunks of any size: with a `Memory` a layer goes on where its
last chunk ended. Then each frame is written into a ring of the last k, which is convolved as it
lies; nothing is moved or kept twice.

Legend: B batch, C channels, T frames, H W pixels, k frames of a kernel.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.memory import Memory, Ring


class Activation(Protocol):
    """What stands before a convolution, position by position."""

    def __call__(self, x: Tensor, /, *, out: Tensor | None = None) -> Tensor:
        """Return x's shape, written to `out` where that is given."""


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

    def forward(
        self, x: Tensor, memory: Memory | None = None, before: Activation | None = None
    ) -> Tensor:
        """Return (B, C_out, T, H, W).

        Args:
            x: (B, C, T, H, W), the next frames of the clip.
            memory: what the layer knows of earlier frames; None at the start of a whole clip.
            before: applied to x first.
        """
        if memory is None or not self.num_past:
            return self._slide(x if before is None else before(x))
        ring = memory.ring(self, x, self.num_past + 1)
        frames = [self._turn(ring, frame, before) for frame in torch.split(x, 1, dim=2)]
        return frames[0] if len(frames) == 1 else torch.cat(frames, dim=2)

    def _slide(self, x: Tensor) -> Tensor:
        """Convolve a whole clip."""
        if self.kernel_size == (1, 1, 1):
            return pointwise(x, self.weight, self.bias)
        taps = min(self.num_past + 1, x.shape[2])  # more would only meet zeros
        if taps > 1:
            x = F.pad(x, (0, 0, 0, 0, taps - 1, 0))
        weight = self.weight[:, :, self.num_past + 1 - taps :]
        return F.conv3d(x, weight, self.bias, padding=self.padding)

    def _turn(self, ring: Ring, x: Tensor, before: Activation | None) -> Tensor:
        """Put one frame into its ring and convolve that, the taps turned to where frames lie."""
        slot = ring.slot(ring.seen)
        if before is None:
            slot.copy_(x)
        else:
            before(x, out=slot)
        last, size = ring.seen, self.num_past + 1
        ring.seen += 1
        taps = [self.num_past - (last - at) % size for at in range(min(ring.seen, size))]
        image = ring.image[:, : len(taps) * self.in_channels]
        weight = torch.cat([self.weight[:, :, tap] for tap in taps], dim=1)  # (C_out, taps C, h, w)
        return F.conv2d(image, weight, self.bias, padding=self.padding[1:])[:, :, None]


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Mix the channels of x (B, C, ...) by a 1 x 1 convolution's weight; a matrix product."""
    return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)


def fold_frames(x: Tensor) -> Tensor:
    """Make images of a video: (B, C, T, H, W) -> (B T, C, H, W); free in channels-last memory."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_frames(x: Tensor, batch: int) -> Tensor:
    """Undo `fold_frames`: (B T, C, H, W) -> (B, C, T, H, W)."""
    return torch.unflatten(x, 0, (batch, -1)).transpose(1, 2)
