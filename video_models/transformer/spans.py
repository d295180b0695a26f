"""What each block attends to: everything, one frame, one place in all frames, or a window.

All of them are windows of a grid of tokens: a frame is a window of one frame and every row and
column, and so on. Windows need not divide the grid: those at its border are smaller, as in SeedVR
(Wang et al. 2025, arXiv 2501.01320), so that nothing is padded or masked. Frames and places in turn
are the interleaved factorisation of Latte (Ma et al. 2024, arXiv 2401.03048, variant 1); windows
that move by half in every other block are those of Video Swin (Liu et al. 2021, arXiv 2106.13230).

Importing this file needs no torch.
"""

import math
from typing import NamedTuple

from video_models.transformer.config import TransformerConfig

Grid = tuple[int, int, int]
"""Tokens along frames, rows and columns."""


class Span(NamedTuple):
    """The window of one block."""

    size: tuple[int | None, int | None, int | None]
    """Tokens along frames, rows and columns; None for the whole axis."""
    moved: bool = False
    """Whether windows start half a window earlier."""


class Run(NamedTuple):
    """Windows of one size, side by side along an axis."""

    start: int
    size: int
    times: int


def span_of(config: TransformerConfig, index: int) -> Span | None:
    """Return the window of the block of an index; None where it attends to all tokens."""
    every = config.full_every
    if config.attention == "full" or (every is not None and (index + 1) % every == 0):
        return None
    odd = bool((index - (0 if every is None else index // every)) % 2)
    if config.attention == "factorised":
        return Span((None, 1, 1)) if odd else Span((1, None, None))
    return Span(config.window or (None, None, None), moved=odd)


def axis_runs(length: int, size: int | None, *, moved: bool) -> list[Run]:
    """Return the windows that an axis of some length is cut into; at most three sizes."""
    if size is None or size >= length:
        return [Run(0, length, 1)]
    first = size // 2 if moved else 0
    whole, last = divmod(length - first, size)
    runs = [Run(0, first, 1), Run(first, size, whole), Run(length - last, last, 1)]
    return [run for run in runs if run.size and run.times]


def grid_runs(grid: Grid, span: Span) -> list[list[Run]]:
    """Return the windows along frames, rows and columns."""
    axes = zip(grid, span.size, strict=True)
    return [axis_runs(length, size, moved=span.moved) for length, size in axes]


def attended_pairs(grid: Grid, span: Span | None) -> int:
    """Return how many pairs of a query and a key a block computes for one sample."""
    if span is None:
        return math.prod(grid) ** 2
    return math.prod(sum(run.times * run.size**2 for run in runs) for runs in grid_runs(grid, span))
