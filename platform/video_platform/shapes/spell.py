"""Read a row of letters back from pixels.

    frames -> ink (how far each pixel stands from the background towards a colour)
           -> glyphs (runs of inked columns, from left to right) -> tracks (by place in the row)
           -> letters (overlap with the font, drawn sharp or soft, in every size of the world)

Nothing is guessed: a glyph that fits no letter well, or two, that has a part too many or too few,
that changes, or that is only half there is `UNREAD`, which is no letter of any caption.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from video_platform.shapes.detect import BLURS, MIN_PRESENCE, Frames, check_clip
from video_platform.shapes.follow import UNKNOWN, motion_of
from video_platform.shapes.letters import COLUMNS, GLYPHS, ROWS, shares
from video_platform.shapes.segment import direction_of, offset_of, strength_of
from video_platform.shapes.world import MAX_LETTERS, WorldConfig, row_cell

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Patch = tuple[slice, slice]
"""Rows and columns of a frame."""

UNREAD = "?"
"""A glyph that could not be read with confidence."""

INK = 0.45
"""Smallest strength of a pixel that belongs to a glyph."""

TRACE = 0.25
"""Smallest strength of ink that is too weak for a glyph and too strong for nothing."""

MIN_SPECK = 0.0025
"""Smallest patch of ink that counts, as a share of the frame: 3 pixels of 32 x 32."""

REACH = 3
"""How far around a glyph, in pixels, its faded edge is measured; half-way to the next at most."""

MIN_OVERLAP = 0.86
"""Smallest overlap with a letter, in [0, 1], that can be that letter."""

MIN_LEAD = 0.04
"""Smallest lead in overlap of the best letter over the second."""

MAX_CELL = 0.4
"""Largest mean difference in strength from the letter in a cell of the font."""

MIN_COSINE = 0.9
"""Smallest cosine between a glyph's offset from the background and that of its colour."""

_TINY = 1e-6
_TOUCHING = np.ones((3, 3), bool)
_FILLED = np.stack(list(GLYPHS.values())).astype(np.float64)  # (letters, ROWS, COLUMNS)
_MIDDLES = np.stack(
    [np.argwhere(filled).mean(0)[::-1] + 0.5 for filled in GLYPHS.values()]
)  # (letters, 2): x and y, in cells


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """A row of letters as read from pixels."""

    letters: str
    """From left to right; `UNREAD` where a glyph is no letter; empty where there is no glyph."""
    colour: str
    """That of every glyph, or `unknown`."""
    motion: str
    """That of the row, or `unknown`."""


@dataclass(frozen=True, kw_only=True)
class _Glyph:
    """One place in the row, in the frames in which the row has its usual number of glyphs."""

    cover: Doubles
    """(T, H, W): strength of its ink, 0 outside its box; cut to where its boxes are."""
    rows: Doubles
    """(T, H): 1 where its box is."""
    columns: Doubles
    """(T, W): 1 where its box is."""
    colour: str

    def centres(self) -> Doubles:
        """Return x and y of the middle of its ink, in pixels of the cut, (T, 2)."""
        x, y = (np.arange(size) + 0.5 for size in (self.cover.shape[2], self.cover.shape[1]))
        moments = np.stack([self.cover.sum(1) @ x, self.cover.sum(2) @ y], axis=1)
        return np.asarray(moments / np.maximum(self.cover.sum((1, 2)), _TINY)[:, None])


def spell(world: WorldConfig, frames: Frames) -> Spelling:
    """Read the letters of a clip of `world`; its size and length need not be the world's."""
    check_clip(frames)
    offset = offset_of(frames, background=world.background)  # (T, H, W, 3)
    directions = {name: direction_of(name, background=world.background) for name in world.colours}
    ink = np.max([strength_of(offset, direction) for direction in directions.values()], axis=0)
    # A cell is three pixels high or more, but the gap between two glyphs may be two wide.
    ink = ndimage.uniform_filter1d(ink, 3, axis=1)
    patches = [_patches(frame) for frame in ink]
    count, seen = Counter(map(len, patches)).most_common(1)[0]
    if not count or seen < MIN_PRESENCE * len(frames):
        return Spelling(letters=UNREAD * count, colour=UNKNOWN, motion=UNKNOWN)
    times = [time for time, found in enumerate(patches) if len(found) == count]
    glyphs = [
        _glyph(offset[times], [patches[time][place] for time in times], directions)
        for place in range(count)
    ]
    colours = {glyph.colour for glyph in glyphs}
    centres = np.mean([glyph.centres() for glyph in glyphs], axis=0)
    side = min(frames.shape[1:3])
    return Spelling(
        letters="".join(_letter(world, glyph, side) for glyph in glyphs),
        colour=colours.pop() if len(colours) == 1 else UNKNOWN,
        motion=motion_of(times, centres, num_frames=len(frames), side=side),
    )


def _patches(ink: Floats) -> list[Patch]:
    """Cut one frame into glyphs, left to right: runs of columns with ink, or a trace of it."""
    strong = _runs(ink > INK)
    traced = ink > TRACE
    for _, columns in strong:
        traced[:, max(columns.start - 1, 0) : columns.stop + 1] = False
    return _widened(sorted(strong + _runs(traced), key=lambda patch: patch[1].start), ink.shape[1])


def _widened(patches: list[Patch], width: int) -> list[Patch]:
    """Add the faded edges, and leave what lies nearer to the next glyph to that."""
    stops = [-width, *(columns.stop for _, columns in patches)]
    starts = [*(columns.start for _, columns in patches), 2 * width]
    found = []
    for place, (rows, columns) in enumerate(patches):
        left = max(columns.start - REACH, (stops[place] + columns.start) // 2, 0)
        right = min(columns.stop + REACH, (columns.stop + starts[place + 1] + 1) // 2)
        found.append((slice(max(rows.start - REACH, 0), rows.stop + REACH), slice(left, right)))
    return found


def _runs(inked: NDArray[np.bool_]) -> list[Patch]:
    """Return the boxes of the runs of inked columns, specks of noise left out."""
    labels, count = ndimage.label(inked, structure=_TOUCHING)
    if not count:
        return []
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = (sizes >= MIN_SPECK * inked.size)[labels]
    runs, _ = ndimage.label(kept.any(axis=0))
    boxes = []
    for (columns,) in ndimage.find_objects(runs):
        rows = np.flatnonzero(kept[:, columns].any(axis=1))
        boxes.append((slice(int(rows[0]), int(rows[-1]) + 1), columns))
    return boxes


def _glyph(offset: Floats, patches: Sequence[Patch], directions: dict[str, Floats]) -> _Glyph:
    """Measure the ink of one place in the row, in one box a frame."""
    (top, bottom), (left, right) = (
        (min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*patches, strict=True)
    )
    offset = offset[:, top:bottom, left:right]
    num_frames, height, width, _ = offset.shape
    rows, columns = np.zeros((num_frames, height)), np.zeros((num_frames, width))
    for time, (down, across) in enumerate(patches):
        rows[time, down.start - top : down.stop - top] = 1
        columns[time, across.start - left : across.stop - left] = 1
    window = rows[:, :, None] * columns[:, None, :]
    total = np.einsum("thwc,thw->c", offset, window)
    cosines = {name: _cosine(total, direction) for name, direction in directions.items()}
    best = max(cosines, key=lambda name: cosines[name])
    return _Glyph(
        cover=strength_of(offset, directions[best]) * window,
        rows=rows,
        columns=columns,
        colour=best if cosines[best] >= MIN_COSINE else UNKNOWN,
    )


def _cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + _TINY))


def _letter(world: WorldConfig, glyph: _Glyph, side: int) -> str:
    """Read one glyph; letters that the world does not know are read too, to be told apart."""
    fits = [_fit(glyph, cell, blur) for cell in _cells(side) for blur in BLURS]
    overlaps = np.stack([fit.overlaps for fit in fits])  # (fits, letters, T)
    scores = overlaps.mean(-1).max(0)
    best, second = np.argsort(-scores)[:2]
    fit = fits[int(overlaps.mean(-1)[:, best].argmax())]
    steady = float((overlaps.max(0).argmax(0) == best).mean())
    letter = list(GLYPHS)[best]
    is_sure = (
        letter in world.letters
        and scores[best] >= MIN_OVERLAP
        and scores[best] - scores[second] >= MIN_LEAD
        and fit.largest_miss[best] <= MAX_CELL
        and steady >= MIN_PRESENCE
    )
    return letter if is_sure else UNREAD


@lru_cache(maxsize=64)
def _cells(side: int) -> tuple[tuple[int, int], ...]:
    """Return the cells of rows of one letter and more, in frames of this size."""
    found = (row_cell(side, count) for count in range(1, MAX_LETTERS + 1))
    return tuple(dict.fromkeys(cell for cell in found if cell is not None))


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """Every letter of the font laid over a glyph, in one size and softness."""

    overlaps: Doubles
    """(letters, T)."""
    largest_miss: Doubles
    """Largest difference in strength, averaged over time, of a cell of the font: (letters,)."""


def _fit(glyph: _Glyph, cell: tuple[int, int], blur: float) -> _Fit:
    """Lay letters over a glyph where their middles meet.

    A drawn letter is the sum of its cells, and a cell is the product of a part of a column and a
    part of a row; so sums over pixels become products of small matrices, and nothing is drawn.
    Legend: L letters, T frames, H W pixels, R C cells.
    """
    sharp_down, sharp_across = _grids(glyph, cell)  # (L, T, R, H), (L, T, C, W)
    _, height, width = glyph.cover.shape
    down = sharp_down @ _kernel(blur, height) * glyph.rows[:, None]
    across = sharp_across @ _kernel(blur, width) * glyph.columns[:, None]
    filled = _FILLED[:, None]  # (L, 1, R, C)

    both = _sum(filled * (down @ glyph.cover @ _turned(across)))
    drawn = _sum(filled * (down @ _turned(down) @ filled @ across @ _turned(across)))
    overlaps = both / np.maximum((glyph.cover**2).sum((1, 2)) + drawn - both, _TINY)

    seen = sharp_down @ glyph.cover @ _turned(sharp_across)
    shown = sharp_down @ _turned(down) @ filled @ across @ _turned(sharp_across)
    miss = np.abs((seen - shown).mean(1)) / (cell[0] * cell[1])
    return _Fit(overlaps=overlaps, largest_miss=miss.max((1, 2)))


def _grids(glyph: _Glyph, cell: tuple[int, int]) -> tuple[Doubles, Doubles]:
    """Lay the cells of every letter over a glyph: shares (L, T, R, H) and (L, T, C, W)."""
    _, height, width = glyph.cover.shape
    corners = glyph.centres() - _MIDDLES[:, None] * cell  # (L, T, 2)
    left, top = corners[..., 0], corners[..., 1]
    return (
        shares(top.ravel(), cell[1], count=ROWS, size=height).reshape(*top.shape, ROWS, height),
        shares(left.ravel(), cell[0], count=COLUMNS, size=width).reshape(
            *left.shape, COLUMNS, width
        ),
    )


def _sum(cells: Doubles) -> Doubles:
    return np.asarray(cells.sum((-2, -1)))


def _turned(matrix: Doubles) -> Doubles:
    return np.swapaxes(matrix, -2, -1)


@lru_cache(maxsize=64)
def _kernel(blur: float, size: int) -> Doubles:
    """Return the matrix that blurs a line of pixels, (size, size)."""
    return np.asarray(ndimage.gaussian_filter1d(np.eye(size), blur, axis=1, mode="constant"))
