"""The outlines: signed distances of each shape, all of the same area for the same radius.

`radius` is always that of the circle with the same area, so neither the area nor the amount of
colour in a frame tells one shape from another; only the outline does. A shape's origin is its
centre of area. Distances are in pixels, x to the right, y down, negative inside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_SQUARE_HALF = float(np.sqrt(np.pi) / 2)
# The triangle is as high as it is wide: its box must leave room for motion along both axes.
_TRIANGLE_SIDE = float(np.sqrt(2 * np.pi))
# Area of a plus whose arms are a third of its length: (2/3 - 1/9) length^2.
_CROSS_HALF = float(np.sqrt(np.pi / (5 / 9)) / 2)


@dataclass(frozen=True, kw_only=True)
class Outline:
    """One shape: its signed distance and its box, for radius 1."""

    distance: Callable[[Array, Array, Array], Array]
    """Signed distance at offsets (x, y) from the centre, given the radius; all may broadcast."""

    half_width: float
    """From the centre to the left and to the right edge of the box."""

    above: float
    """From the centre up to the top of the box."""

    below: float
    """From the centre down to the bottom of the box."""


def _circle(x: Array, y: Array, radius: Array) -> Array:
    return np.asarray(np.hypot(x, y) - radius)


def _square(x: Array, y: Array, radius: Array) -> Array:
    return np.asarray(np.maximum(np.abs(x), np.abs(y)) - _SQUARE_HALF * radius)


def _triangle(x: Array, y: Array, radius: Array) -> Array:
    base, apex = _TRIANGLE_SIDE * radius / 3, _TRIANGLE_SIDE * radius * 2 / 3
    # The slanted edges fall two pixels for every pixel to the side.
    slant = (2 * np.abs(x) - (y + apex)) / np.sqrt(np.float32(5))
    return np.asarray(np.maximum(y - base, slant))


def _cross(x: Array, y: Array, radius: Array) -> Array:
    half, arm = _CROSS_HALF * radius, _CROSS_HALF * radius / 3
    x, y = np.abs(x), np.abs(y)
    return np.asarray(np.minimum(np.maximum(x - half, y - arm), np.maximum(x - arm, y - half)))


SHAPES: dict[str, Outline] = {
    "circle": Outline(distance=_circle, half_width=1, above=1, below=1),
    "cross": Outline(distance=_cross, half_width=_CROSS_HALF, above=_CROSS_HALF, below=_CROSS_HALF),
    "square": Outline(
        distance=_square, half_width=_SQUARE_HALF, above=_SQUARE_HALF, below=_SQUARE_HALF
    ),
    "triangle": Outline(
        distance=_triangle,
        half_width=_TRIANGLE_SIDE / 2,
        above=_TRIANGLE_SIDE * 2 / 3,
        below=_TRIANGLE_SIDE / 3,
    ),
}


def coverage(
    shape: str, *, x: Array, y: Array, radius: float | Array, height: int, width: int
) -> NDArray[np.float32]:
    """Return how much of each pixel a shape covers, anti-aliased, in [0, 1].

    Args:
        shape: a key of `SHAPES`.
        x: centres in pixels, (N,); the middle of the top left pixel is (0.5, 0.5).
        y: centres in pixels, (N,).
        radius: one radius, or one for each centre (N,), in pixels.
        height: rows of the frame.
        width: columns of the frame.

    Returns:
        (N, height, width), float32.
    """
    columns = (np.arange(width, dtype=np.float32) + 0.5)[None, None, :]
    rows = (np.arange(height, dtype=np.float32) + 0.5)[None, :, None]
    offset_x = columns - np.asarray(x, np.float32)[:, None, None]
    offset_y = rows - np.asarray(y, np.float32)[:, None, None]
    radii = np.broadcast_to(np.asarray(radius, np.float32), np.shape(x))[:, None, None]
    inside = 0.5 - SHAPES[shape].distance(offset_x, offset_y, radii)
    return np.asarray(np.clip(inside, 0, 1), np.float32)  # (N, H, W)
