"""Control maps: what a clip shows, reduced to what a model may be steered by.

Each is a function of one frame's pixels alone, in whole numbers, so that it is the same on every
machine.

Legend: T frames, H W pixels.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.uint8]

VERSION = 1
"""To be raised by any change that changes a map."""

LUMA = (54, 183, 19)
"""Weights of red, green and blue in 256ths, as in Rec. ITU-R BT.709."""


def gray(frame: Map) -> Map:
    """Return the luma (H, W) of a frame (H, W, 3): 0 is black, 255 white."""
    weighted = frame.astype(np.uint32) @ np.array(LUMA, np.uint32)
    luma: Map = ((weighted + 128) >> 8).astype(np.uint8)
    return luma


def edges(frame: Map) -> Map:
    """Return how steep the luma is (H, W): the length of Sobel's gradient, halved, at most 255.

    Frames go on beyond their border as their last pixels are.
    """
    x = np.pad(gray(frame).astype(np.int32), 1, mode="edge")
    down = x[:-2] + 2 * x[1:-1] + x[2:]  # (H, W + 2), smoothed over rows
    right = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]  # (H + 2, W)
    across, along = down[:, 2:] - down[:, :-2], right[2:] - right[:-2]
    steepness = np.sqrt((across * across + along * along).astype(np.float64)) / 2
    steep: Map = np.minimum(np.floor(steepness + 0.5), 255).astype(np.uint8)
    return steep


METHODS: dict[str, Callable[[Map], Map]] = {"edges": edges, "gray": gray}
"""What a control map holds, by name."""


def control_map(frames: Map, method: Callable[[Map], Map], factor: int = 1) -> Map:
    """Return the map (T, H / factor, W / factor) of frames (T, H, W, 3).

    Args:
        frames: uint8 RGB.
        method: one of `METHODS`.
        factor: how many pixels along one side are averaged, rounded to the nearest.

    Raises:
        ValueError: the frames do not divide by the factor.
    """
    T, H, W, _ = frames.shape
    if H % factor or W % factor:
        raise ValueError(f"frames of {H} x {W} do not divide by factor {factor!r}")
    maps = np.stack([method(frame) for frame in frames])
    if factor == 1:
        return maps
    blocks = maps.reshape(T, H // factor, factor, W // factor, factor).astype(np.uint32)
    area = factor * factor
    small: Map = ((blocks.sum((2, 4)) + area // 2) // area).astype(np.uint8)
    return small
