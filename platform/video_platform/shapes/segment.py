"""Frames to blobs: which pixels belong to which colour, and which of them hang together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from video_platform.shapes.world import BACKGROUNDS, PALETTE

Floats = NDArray[np.float32]

MAX_DISTANCE = 112.0
"""A pixel further than this from every known colour, in RGB, belongs to none.

Half the way from grey to the furthest colour is 111; black lies 120 from green, white from pink.
"""

MIN_AREA = 0.012
"""Smallest blob that counts, as a share of the frame: 12 pixels of 32 x 32."""

REACH = 3
"""How far around a blob, in pixels, its faded edge is measured."""

_NONE = -1
_IN_FRAME = np.zeros((3, 3, 3), bool)
_IN_FRAME[1] = True


_LUMA_CHROMA = np.array(
    [[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]], np.float32
) / np.array([[1], [2.5], [2.5]], np.float32)
"""RGB to brightness and colour difference, the latter trusted 2.5 times less: 4:2:0 smears it."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One connected patch of one colour in one frame."""

    colour: str
    frame: int
    x: float
    """Centre of its cover, in pixels from the left."""
    y: float
    """Centre of its cover, in pixels from the top."""
    area: float
    """Sum of its cover, in pixels."""
    cover: Floats
    """(H, W): how much of each pixel it fills, about 0 to 1; 0 away from the blob."""


def segment(frames: NDArray[np.uint8], *, background: str, colours: Sequence[str]) -> list[Blob]:
    """Find the coloured blobs of every frame.

    Args:
        frames: RGB, (T, H, W, 3).
        background: a key of `BACKGROUNDS`.
        colours: keys of `PALETTE`.
    """
    directions = np.stack([direction_of(name, background=background) for name in colours])
    offset = offset_of(frames, background=background)
    nearest = _nearest(offset, directions)
    blobs = []
    for index, name in enumerate(colours):
        labels, count = ndimage.label(nearest == index, structure=_IN_FRAME)
        if count:
            # Another colour's pixels are nobody's edge.
            mine = (nearest == index) | (nearest == _NONE)
            strength = np.where(mine, strength_of(offset, directions[index]), 0)
            blobs += _blobs(name, labels, strength)
    return blobs


def offset_of(frames: NDArray[np.uint8], *, background: str) -> Floats:
    """Return how far each pixel is from the background in RGB, (T, H, W, 3)."""
    return np.asarray(frames.astype(np.float32) - np.array(BACKGROUNDS[background], np.float32))


def direction_of(colour: str, *, background: str) -> Floats:
    """Return how far a colour is from the background in RGB, (3,)."""
    return np.array(PALETTE[colour], np.float32) - np.array(BACKGROUNDS[background], np.float32)


def _nearest(offset: Floats, directions: Floats) -> NDArray[np.intp]:
    """Return each pixel's colour by index; `_NONE` for the background and for what is far off."""
    anchors = np.concatenate([directions, np.zeros((1, 3), np.float32)])
    # |p - a|^2 without |p|^2, which is the same for every anchor.
    scores = (anchors**2).sum(-1) - 2 * offset @ anchors.T  # (T, H, W, K + 1)
    nearest: NDArray[np.intp] = scores.argmin(-1)
    distance = scores.min(-1) + (offset**2).sum(-1)
    nearest[(distance > MAX_DISTANCE**2) | (nearest == len(directions))] = _NONE
    return nearest


def strength_of(offset: Floats, direction: Floats) -> Floats:
    """Say how far each pixel stands from the background (0) towards a colour (1)."""
    seen = direction @ _LUMA_CHROMA.T
    strength = (offset @ (_LUMA_CHROMA.T @ seen)) / (seen @ seen)
    # Noise may fall below 0: cut there, it would add up to an area.
    return np.asarray(strength.clip(-0.2, 1.2), np.float32)


def _blobs(colour: str, labels: NDArray[Any], strength: Floats) -> list[Blob]:
    """Measure one colour's connected patches, labelled 1, 2, ... in (T, H, W)."""
    height, width = labels.shape[1:]
    blobs = []
    for label, (time, *where) in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = _widen(where[0], height), _widen(where[1], width)
        patch = labels[time.start, rows, columns]
        if np.count_nonzero(patch == label) < MIN_AREA * height * width:
            continue
        cover = np.zeros((height, width), np.float32)
        mine = (patch == label) | (patch == 0)
        cover[rows, columns] = np.where(mine, strength[time.start, rows, columns], 0)
        blobs.append(_measure(colour, time.start, cover))
    return blobs


def _widen(part: slice, size: int) -> slice:
    return slice(max(part.start - REACH, 0), min(part.stop + REACH, size))


def _measure(colour: str, frame: int, cover: Floats) -> Blob:
    height, width = cover.shape
    area = float(cover.sum())
    return Blob(
        colour=colour,
        frame=frame,
        x=float(cover.sum(0) @ (np.arange(width) + 0.5)) / area,
        y=float(cover.sum(1) @ (np.arange(height) + 0.5)) / area,
        area=area,
        cover=cover,
    )
