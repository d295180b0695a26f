"""Self-attention inside windows of a grid, on any kernel.

Legend: B batch, S = F R Q tokens of a grid of frames, rows and columns, (f, r, q) a window, H
heads, d channels of a head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from video_models.layers.attention import AttentionFunction
from video_models.layers.joining import joined
from video_models.transformer.spans import Grid, Run, Span, grid_runs


def within(kernel: AttentionFunction, grid: Grid, span: Span | None) -> AttentionFunction:
    """Return the kernel inside each window of a grid; as it is where there is no span."""
    if span is None:
        return kernel
    axes = grid_runs(grid, span)

    def attend_windows(q: Tensor, k: Tensor, v: Tensor, _mask: Tensor | None = None) -> Tensor:
        boxes = [torch.unflatten(x, 1, grid) for x in (q, k, v)]  # (B, F, R, Q, H, d)
        return _attend_box(kernel, boxes, axes, ()).flatten(1, 3)

    return attend_windows


def _attend_box(
    kernel: AttentionFunction,
    boxes: Sequence[Tensor],
    axes: Sequence[Sequence[Run]],
    window: tuple[int, ...],
) -> Tensor:
    """Cut boxes along one axis after the other until all windows in them have one size."""
    axis = len(window)
    if axis == len(axes):
        return _attend_equal(kernel, boxes, window)
    parts = [
        _attend_box(
            kernel,
            [x.narrow(1 + axis, run.start, run.size * run.times) for x in boxes],
            axes,
            (*window, run.size),
        )
        for run in axes[axis]
    ]
    return joined(parts, 1 + axis)


def _attend_equal(
    kernel: AttentionFunction, boxes: Sequence[Tensor], window: tuple[int, ...]
) -> Tensor:
    """Attend in windows of one size that fill a box, as one batch."""
    f, r, q = window
    B, F, R, Q, H, d = boxes[0].shape
    cut = (B, F // f, f, R // r, r, Q // q, q, H, d)
    apart = (0, 1, 3, 5, 2, 4, 6, 7, 8)
    together = (0, 1, 4, 2, 5, 3, 6, 7, 8)
    batch = [x.reshape(cut).permute(apart).flatten(0, 3).flatten(1, 3) for x in boxes]
    out = kernel(batch[0], batch[1], batch[2], None)  # (B n, f r q, H, d)
    parted = out.reshape(*(cut[i] for i in apart)).permute(together)
    return parted.reshape(B, F, R, Q, H, d)
