"""Rotary position embedding over frames, rows and columns.

Su et al. 2021, arXiv 2104.09864, on three axes as in Wan. The channels of a head are cut into three
runs, one an axis. Inside a run, neighbouring channels (2i, 2i + 1) are one pair that turns by
`position * theta^(-2i / run)`. Angles are computed in float64: at position 1000 float32 is already
off by 3e-5 rad.

Legend: B batch, S tokens, H heads, d channels of a head, (F, R, Q) frames, rows and columns of
tokens.
"""

import torch
from torch import Tensor

from video_models.layers.embeddings import widen

Rotation = Tensor
"""cos + i sin of each token's angles, (S, d / 2) complex64."""


def axis_widths(head_dim: int) -> tuple[int, int, int]:
    """Return how many channels of a head belong to frames, rows and columns."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def axis_angles(length: int, width: int, theta: float = 10000.0) -> Tensor:
    """Return the angles of positions 0..length-1 along one axis, (length, width / 2) float64."""
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.outer(torch.arange(length, dtype=torch.float64), frequencies)


def rotation(grid: tuple[int, int, int], head_dim: int, *, device: torch.device) -> Rotation:
    """Return the rotation of every token of a grid, tokens in (frame, row, column) order."""
    F, R, Q = grid
    views = ((F, 1, 1, -1), (1, R, 1, -1), (1, 1, Q, -1))
    parts = []
    for length, width, view in zip(grid, axis_widths(head_dim), views, strict=True):
        angles = axis_angles(length, width)
        turns = torch.polar(torch.ones_like(angles), angles)
        parts.append(turns.to(device, torch.complex64).view(view).expand(F, R, Q, -1))
    return torch.cat(parts, dim=-1).reshape(F * R * Q, -1)  # (S, d / 2)


def rotate(x: Tensor, turn: Rotation) -> Tensor:
    """Turn the channel pairs of x (B, S, H, d), in float32 or wider; returned in x's dtype.

    A pair is a complex number, which is ten times as fast on a CPU as sines and cosines apart.
    """
    pairs = torch.view_as_complex(widen(x).reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn[:, None]).flatten(-2).type_as(x)
