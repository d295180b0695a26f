"""Positions over frames, rows and columns: rotary ones, and sinusoids to add.

Su et al. 2021, arXiv 2104.09864, on three axes as in Wan. The channels of a head are cut into three
runs, one an axis. Inside a run, neighbouring channels (2i, 2i + 1) are one pair that turns by
`position * theta^(-2i / run)`. Angles are computed in float64: at position 1000 float32 is already
off by 3e-5 rad.

A model that was trained on a smaller grid can be told of a larger one by a `Stretch`, each axis by
itself.

Legend: B batch, S tokens, H heads, d channels of a head, (F, R, Q) frames, rows and columns of
tokens.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from video_models.layers.embeddings import widen

Rotation = Tensor
"""cos + i sin of each token's angles, (S, d / 2) complex64."""


class Stretch(NamedTuple):
    """How positions beyond those of the training are told; within them nothing changes.

    `interpolation` lays them evenly into the trained range (Chen et al. 2023, arXiv 2306.15595);
    `ntk` keeps positions and slows channel pairs down, the slowest by the same factor and the
    fastest not at all (Peng et al. 2023, arXiv 2309.00071, section 3.1).
    """

    trained: tuple[int, int, int]
    """Most positions along frames, rows and columns in training."""
    rule: Literal["interpolation", "ntk"]


def axis_widths(head_dim: int) -> tuple[int, int, int]:
    """Return how many channels of a head belong to frames, rows and columns."""
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def axis_angles(
    length: int,
    width: int,
    theta: float = 10000.0,
    *,
    trained: int | None = None,
    rule: Literal["interpolation", "ntk"] = "interpolation",
) -> Tensor:
    """Return the angles of positions 0..length-1 along one axis, (length, width / 2) float64.

    Args:
        length: positions.
        width: channels of the axis.
        theta: how much slower the last channel pair would turn than the first.
        trained: positions beyond which `rule` stretches; None never does.
        rule: see `Stretch`; `ntk` needs four channels or more.
    """
    factor = 1.0 if trained is None else max(1.0, length / trained)
    positions = torch.arange(length, dtype=torch.float64)
    if rule == "ntk":
        theta *= factor ** (width / (width - 2))
    else:
        positions = positions / factor
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.outer(positions, frequencies)


def rotation(
    grid: tuple[int, int, int],
    head_dim: int,
    *,
    device: torch.device,
    stretch: Stretch | None = None,
    axes: tuple[int, int, int] | None = None,
    theta: float = 10000.0,
) -> Rotation:
    """Return the rotation of every token of a grid, tokens in (frame, row, column) order.

    Each axis has its share of the channels; its sines and cosines are taken once, of far fewer
    positions than the grid has tokens.

    Args:
        grid: tokens along frames, rows and columns.
        head_dim: channels of a head.
        device: where to.
        stretch: how positions beyond those of the training are told.
        axes: channels of frames, rows and columns; None for `axis_widths`.
        theta: how much slower the last channel pair of an axis would turn than the first.
    """
    F, R, Q = grid
    trained = (None, None, None) if stretch is None else stretch.trained
    rule = "interpolation" if stretch is None else stretch.rule
    views = ((F, 1, 1, -1), (1, R, 1, -1), (1, 1, Q, -1))
    parts = []
    widths = axes or axis_widths(head_dim)
    for length, width, most, view in zip(grid, widths, trained, views, strict=True):
        angles = axis_angles(length, width, theta, trained=most, rule=rule)
        turn = torch.polar(torch.ones_like(angles), angles).to(device, torch.complex64)
        parts.append(turn.view(view).expand(F, R, Q, -1))
    return torch.cat(parts, dim=-1).flatten(0, 2)


def absolute_positions(
    grid: tuple[int, int, int],
    dim: int,
    *,
    device: torch.device,
    stretch: Stretch | None = None,
) -> Tensor:
    """Return sinusoids that tell every token where it is, (S, dim) float32.

    Vaswani et al. 2017, arXiv 1706.03762, section 3.5, on three axes.
    """
    turn = rotation(grid, dim, device=device, stretch=stretch)
    return torch.cat((turn.real, turn.imag), dim=-1)


def rotate(x: Tensor, turn: Rotation) -> Tensor:
    """Turn the channel pairs of x (B, S, H, d), in float32 or wider; returned in x's dtype.

    A pair is a complex number, which is ten times as fast on a CPU as sines and cosines apart;
    PyTorch's compiler, which makes no code for complex numbers, is given those.
    """
    pairs = torch.unflatten(widen(x), -1, (-1, 2))  # (B, S, H, d / 2, 2)
    if torch.compiler.is_compiling():
        a, b = pairs.unbind(-1)
        cos, sin = torch.view_as_real(turn)[:, None].unbind(-1)  # (S, 1, d / 2)
        turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * turn[:, None])
    return turned.flatten(-2).type_as(x)
