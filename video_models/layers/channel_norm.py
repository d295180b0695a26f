"""Root-mean-square norm over channels: each position by itself, so causality and chunks hold.

Legend: B batch, C channels, T frames, H W pixels, N positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK_ELEMENTS = 1 << 18
"""Numbers that stay in a CPU core's cache while all passes go over them."""


class ChannelNorm(nn.Module):
    """Scale each position's channel vector to root mean square 1, then by a learned gain.

    Half precision is normalised in float32.
    """

    def __init__(self, dim: int, *, num_axes: int):
        """Build it.

        Args:
            dim: channels.
            num_axes: axes behind the channels, 3 for (T, H, W) and 2 for (H, W).
        """
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, *[1] * num_axes))

    def forward(self, x: Tensor, *, silu: bool = False, out: Tensor | None = None) -> Tensor:
        """Return x's shape and type.

        Args:
            x: (B, C, ...).
            silu: whether SiLU follows.
            out: where to write; without gradients only.
        """
        if not torch.is_grad_enabled() and x.device.type == "cpu":
            out = torch.empty_like(x) if out is None else out
            if _has_rows(x) and _has_rows(out):
                return self._in_blocks(x, out, silu)
        y: Tensor = _normalise(x) * self.gamma
        y = F.silu(y) if silu else y
        return y if out is None else out.copy_(y)

    def _in_blocks(self, x: Tensor, out: Tensor, silu: bool) -> Tensor:
        """Go over memory once: all passes over a block, packed and wide, before the next block."""
        gain = _wide(self.gamma.flatten()) * len(self.gamma) ** 0.5
        axis, rows = -self.gamma.ndim, max(1, BLOCK_ELEMENTS // len(gain))
        apart = x.shape[0] > 1 and not (_is_dense(x) and _is_dense(out))
        for source, target in zip(x, out, strict=True) if apart else [(x, out)]:
            sources = source.movedim(axis, -1).flatten(0, -2).split(rows)  # (N, C) each
            targets = target.movedim(axis, -1).flatten(0, -2).split(rows)
            for block, y in zip(sources, targets, strict=True):
                wide = _wide(block)
                mine = wide if wide is not block else torch.empty_like(wide)
                unit = torch.mul(wide, _length(wide).reciprocal_(), out=mine).mul_(gain)
                y.copy_(F.silu(unit, inplace=True) if silu else unit)
        return out


def _normalise(x: Tensor) -> Tensor:
    """Scale along axis 1 to root mean square 1."""
    wide = _wide(x)
    unit: Tensor = (wide * (x.shape[1] ** 0.5 / _length(wide))).type_as(x)
    return unit


def _wide(x: Tensor) -> Tensor:
    """Return x in float32, or in more."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _length(x: Tensor) -> Tensor:
    """Return the length of the vectors along axis 1, which stays; never 0."""
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-12)
    return length


def _is_dense(x: Tensor) -> bool:
    return x.movedim(1, -1).is_contiguous()


def _has_rows(x: Tensor) -> bool:
    """Say whether channels lie side by side and positions at equal distances, in each sample."""
    return x.stride(1) == 1 and x.stride(-2) == x.shape[-1] * x.stride(-1)
