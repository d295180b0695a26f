"""Causal convolutions that see the first frame again before a clip, not zeros.

Around each frame they see its nearest pixel or zeros. With a stride they also shrink: an output
stands at every second frame, row or column, the first frame alone.

Legend: B batch, C channels, T frames, H W pixels, k frames of a kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.causal_conv import Activation, CausalConv3d, fold_frames, unfold_frames
from video_models.layers.memory import Memory, begins


class EdgeConv3d(CausalConv3d):
    """A 3-D convolution with the first frame in front of the clip and nothing behind it."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        kernel_size: tuple[int, int, int],
        *,
        replicate: bool,
        stride: tuple[int, int, int] = (1, 1, 1),
    ):
        """Build it.

        Args:
            in_dim: channels of the input.
            out_dim: channels of the output.
            kernel_size: frames, rows and columns.
            replicate: whether a frame goes on with its nearest pixel; else with zeros.
            stride: of frames, rows and columns.

        Raises:
            ValueError: the stride is longer than the kernel along time.
        """
        if stride[0] > kernel_size[0]:
            raise ValueError(
                f"a stride of {stride[0]} over kernels of {kernel_size[0]} frames leaves frames out"
            )
        super().__init__(in_dim, out_dim, kernel_size)
        self.replicate, self.stride = replicate, stride
        self.padding = (0, 0, 0)  # frames come padded

    def forward(
        self, x: Tensor, memory: Memory | None = None, before: Activation | None = None
    ) -> Tensor:
        """Return (B, C_out, T', H', W'): 1 + (T - 1) / stride frames of a whole clip.

        Args:
            x: (B, C, T, H, W), the next frames of the clip.
            memory: what the layer knows of earlier frames; None at the start of a whole clip.
            before: applied to x first.
        """
        x = self.surround(x if before is None else before(x))
        if self.stride != (1, 1, 1):
            return self._stride(x, memory)
        if torch.is_grad_enabled() or not self.num_past:
            return F.conv3d(_in_front(x, self.num_past), self.weight, self.bias)
        memory = Memory() if memory is None else memory
        past = memory.past(self, x, self.num_past)
        if not past.seen:
            past.fill(x[:, :, :1])
        return super().forward(x, memory)

    def surround(self, x: Tensor) -> Tensor:
        """Return frames with what the kernel sees around them."""
        rows, columns = self.kernel_size[1] // 2, self.kernel_size[2] // 2
        sides = (columns, columns, rows, rows, 0, 0)
        return F.pad(x, sides, mode="replicate" if self.replicate else "constant")

    def _stride(self, x: Tensor, memory: Memory | None) -> Tensor:
        """Convolve where outputs stand; there may be none yet."""
        x = windows(x, self, memory, past=self.num_past, step=self.stride[0])
        if not x.shape[2]:
            return x
        weight = self.weight.transpose(1, 2).flatten(1, 2)  # (C_out, k C, h, w)
        images = F.conv2d(fold_frames(x), weight, self.bias, stride=self.stride[1:])
        return unfold_frames(images, x.shape[0])


def windows(x: Tensor, layer: nn.Module, memory: Memory | None, *, past: int, step: int) -> Tensor:
    """Return the windows of 1 + past frames that a layer has seen whole, one every `step` frames.

    Before a clip its first frame stands `past` times. What later windows need stays in the memory.

    Args:
        x: (B, C, T, H, W), the next frames of the clip.
        layer: whose memory it is.
        memory: what it knows of earlier frames; None at the start of a whole clip.
        past: frames that a window looks back.
        step: frames from one window to the next.

    Returns:
        (B, (1 + past) C, windows, H, W), the earliest frame's channels first.
    """
    if begins(memory, layer):
        x = _in_front(x, past)
    if memory is not None and past + step > 1:
        x = memory.waiting(layer, x)
    count = max(0, (x.shape[2] - past - 1) // step + 1)
    if memory is not None and past + step > 1:
        memory.put_back(layer, x[:, :, count * step :])
    frames = [x[:, :, at : at + count * step : step] for at in range(past + 1)]
    return torch.cat([frame[:, :, :count] for frame in frames], dim=1)


def _in_front(x: Tensor, count: int) -> Tensor:
    """Put the first frame in front of a clip again."""
    return torch.cat((x[:, :, :1],) * count + (x,), dim=2) if count else x
