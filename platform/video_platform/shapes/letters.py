"""A small bitmap font: glyphs that stay apart after compression, an autoencoder's blur and noise.

Every glyph fills a box of 3 x 5 cells, and any two of them differ in 4 cells or more. There is no A
and no I: a caption names letters one by one, and these two are words of their own there.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COLUMNS, ROWS = 3, 5
"""Cells of a glyph; one empty column stands between two glyphs."""

MIN_CELL = 2
"""Narrowest cell, in pixels: a stroke of one pixel does not survive 4:2:0."""

TALLEST = 1.5
"""Largest height of a cell over its width: taller glyphs look like bars."""

_FONT = {
    "B": "##. #.# ##. #.# ##.",
    "F": "### #.. ##. #.. #..",
    "J": "..# ..# ..# #.# ###",
    "L": "#.. #.. #.. #.. ###",
    "S": "### #.. ### ..# ###",
    "T": "### .#. .#. .#. .#.",
    "V": "#.# #.# #.# #.# .#.",
    "X": "#.# #.# .#. #.# #.#",
    "Y": "#.# #.# ### .#. .#.",
    "Z": "### ..# .#. #.. ###",
}

GLYPHS: dict[str, NDArray[np.bool_]] = {
    letter: np.array([[cell == "#" for cell in row] for row in picture.split()])
    for letter, picture in _FONT.items()
}
"""Filled cells of each letter, (ROWS, COLUMNS)."""


def cells_across(count: int) -> int:
    """Return the width of a row of `count` glyphs in cells."""
    return (COLUMNS + 1) * count - 1


def cell_size(count: int, *, width: int, height: int) -> tuple[int, int] | None:
    """Return the largest cell, (width, height) in whole pixels, of a row that fits into a box.

    None where it would be narrower than `MIN_CELL`.
    """
    across, down = width // cells_across(count), height // ROWS
    down = min(down, int(TALLEST * across))
    across = min(across, down)
    return (across, down) if across >= MIN_CELL else None


def row_of(text: str) -> NDArray[np.bool_]:
    """Return the cells of a row of glyphs, (ROWS, cells across).

    Args:
        text: keys of `GLYPHS`, one or more.
    """
    gap = np.zeros((ROWS, 1), bool)
    parts = [part for letter in text for part in (gap, GLYPHS[letter])]
    return np.concatenate(parts[1:], axis=1)


def row_coverage(
    cells: NDArray[np.bool_],
    *,
    corners: Floats,
    cell: tuple[float, float],
    height: int,
    width: int,
) -> NDArray[np.float32]:
    """Return how much of each pixel a row of glyphs covers, exactly, in [0, 1].

    Args:
        cells: which cells are filled, (rows, columns).
        corners: x and y of the top left corner of the row, in pixels, (N, 2).
        cell: width and height of a cell, in pixels.
        height: rows of the frame.
        width: columns of the frame.

    Returns:
        (N, height, width), float32.
    """
    across = shares(corners[:, 0], cell[0], count=cells.shape[1], size=width)  # (N, columns, W)
    down = shares(corners[:, 1], cell[1], count=cells.shape[0], size=height)  # (N, rows, H)
    return np.asarray(fill(cells, down, across), np.float32)


def fill(cells: NDArray[np.bool_], down: Floats, across: Floats) -> Floats:
    """Return how much of each pixel the filled cells cover, given `shares` along both axes."""
    return np.asarray(np.einsum("nrh,rc,ncw->nhw", down, cells.astype(np.float64), across))


def shares(start: Floats, step: float, *, count: int, size: int) -> Floats:
    """Return how much of each pixel of a line lies in each cell, (N, count, size).

    Args:
        start: where the first cell begins, (N,).
        step: length of a cell.
        count: cells.
        size: pixels.
    """
    low = start[:, None, None] + step * np.arange(count)[None, :, None]
    pixel = np.arange(size)[None, None, :]
    shared = np.minimum(low + step, pixel + 1) - np.maximum(low, pixel)
    return np.asarray(shared.clip(0, 1))
