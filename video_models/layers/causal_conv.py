"""Convolutions that never look at a later frame.

A kernel of k frames sees its own frame and the k - 1 before it; before the first frame there are
zeros. A clip may come whole or in chunks of any size: with a `Memory` a layer goes on where its
last chunk ended. Then three frames under a kernel are one image of three times the channels; and on
a CPU, where convolutions wait for arithmetic, two frames at a time share a third of it.

Legend: B batch, C channels, T frames, H W pixels, k frames of a kernel.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.memory import Memory, Past


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
        past = memory.past(self, x, self.num_past)
        paired = self.num_past == 2 and x.device.type == "cpu"
        parts, at = [], 0
        while at < x.shape[2]:
            count = 2 if paired and past.seen > 1 and at + 1 < x.shape[2] else 1
            turn = self._pair if count == 2 else self._single
            parts.append(turn(x[:, :, at : at + count], past, memory, before))
            at += count
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def _slide(self, x: Tensor) -> Tensor:
        """Convolve a whole clip."""
        if self.kernel_size == (1, 1, 1):
            return pointwise(x, self.weight, self.bias)
        taps = min(self.num_past + 1, x.shape[2])  # more would only meet zeros
        if taps > 1:
            x = F.pad(x, (0, 0, 0, 0, taps - 1, 0))
        weight = self.weight[:, :, self.num_past + 1 - taps :]
        return F.conv3d(x, weight, self.bias, padding=self.padding)

    def _single(self, x: Tensor, past: Past, memory: Memory, before: Activation | None) -> Tensor:
        """Convolve one frame and those before it as one image."""
        frame = _write(x, memory.take_room(x), before)
        window = [*past.known(), frame]
        image = window[0] if len(window) == 1 else torch.cat(window, dim=1)  # (B, taps C, 1, H, W)
        weight = torch.cat(self.weight.unbind(2)[-len(window) :], dim=1)  # (C_out, taps C, h, w)
        memory.give_room(past.add(frame))
        return self._image(image, weight, self.bias)

    def _pair(self, x: Tensor, past: Past, memory: Memory, before: Activation | None) -> Tensor:
        """Convolve two frames by four kernels over one frame each, where six taps are due.

        Winograd's F(2, 3) over time (Lavin & Gray 2015, arXiv 1509.09308, section 4.1), with frames
        for numbers: of a b c d under taps g0 g1 g2 it is
        (a - c) g0 + (b + c) (g0 + g1 + g2) / 2 + (c - b) (g0 - g1 + g2) / 2 and
        (b + c) (g0 + g1 + g2) / 2 - (c - b) (g0 - g1 + g2) / 2 + (d - b) g2.
        """
        a, b = past.frames
        c = _write(x[:, :, :1], memory.take_room(x), before)
        g0, g1, g2 = self.weight.unbind(2)  # (C_out, C, h, w)
        even, odd = (g0 + g2) / 2, g1 / 2
        first = self._image(a.sub_(c), g0, None)
        B, C, _, H, W = first.shape
        frames = first.new_empty((B, 2, H, W, C)).movedim(-1, 1)  # (B, C, 2, H, W)
        earlier, later = torch.split(frames, 1, dim=2)
        earlier.copy_(first)
        del first  # what is alive at a time counts here
        room = past.add(c)
        both = self._image(torch.add(b, c, out=room), even + odd, self.bias)
        differ = self._image(torch.sub(c, b, out=room), even - odd, None)
        earlier.add_(both).add_(differ)
        torch.sub(both, differ, out=later)
        del both, differ
        d = _write(x[:, :, 1:], room, before)
        room = past.add(d)
        later.add_(self._image(torch.sub(d, b, out=room), g2, None))
        memory.give_room(room)
        return frames

    def _image(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve one image (B, C', 1, H, W) in space."""
        return F.conv2d(x[:, :, 0], weight, bias, padding=self.padding[1:])[:, :, None]


def _write(x: Tensor, room: Tensor, before: Activation | None) -> Tensor:
    """Put a frame into its room, activated."""
    if before is None:
        return room.copy_(x)
    before(x, out=room)
    return room


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Mix the channels of x (B, C, ...) by a 1 x 1 convolution's weight; a matrix product."""
    return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)


def fold_frames(x: Tensor) -> Tensor:
    """Make images of a video: (B, C, T, H, W) -> (B T, C, H, W); free in channels-last memory."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_frames(x: Tensor, batch: int) -> Tensor:
    """Undo `fold_frames`: (B T, C, H, W) -> (B, C, T, H, W)."""
    return torch.unflatten(x, 0, (batch, -1)).transpose(1, 2)
