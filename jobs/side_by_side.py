"""What an autoencoder does to clips, for people to see: original, reconstruction, difference.

Legend: B clips, T frames, H W pixels.
"""

import math

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

GAIN = 4
"""How much differences are amplified around grey."""
MIN_HEIGHT = 128
"""Smaller frames are enlarged by a whole factor until their height reaches it."""


def amplified(reconstruction: Frames, original: Frames) -> Frames:
    """Return the difference times `GAIN` around grey; grey is no difference."""
    difference = reconstruction.astype(np.int16) - original
    return (128 + GAIN * difference).clip(0, 255).astype(np.uint8)


def side_by_side(originals: Frames, reconstructions: Frames) -> Frames:
    """Lay original, reconstruction and amplified difference next to each other, a row a clip.

    Args:
        originals: (B, T, H, W, 3).
        reconstructions: the same shape.

    Returns:
        (T, B H, 3 W, 3), enlarged if small, height and width even.
    """
    parts = (originals, reconstructions, amplified(reconstructions, originals))
    video = np.concatenate(list(np.concatenate(parts, axis=3)), axis=1)
    factor = max(1, math.ceil(MIN_HEIGHT / originals.shape[2]))
    large = video.repeat(factor, axis=1).repeat(factor, axis=2)
    odd = ((0, 0), (0, large.shape[1] % 2), (0, large.shape[2] % 2), (0, 0))
    return np.pad(large, odd, mode="edge")
