"""Decoded frames to RGB: matrix and range as the video names them, else as the policy says.

High dynamic range (PQ, HLG) is converted by its matrix only; no tone is mapped.
"""

from typing import Any

import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from video_platform.video.policy import Untagged

# Matrix coefficients as numbered in ISO/IEC 23091-2, table 4; 2 means unspecified, 0 is RGB.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_FULL_RANGE = 2


class RgbConverter:
    """Converts the frames of one video; keeps the scaler's tables between frames."""

    def __init__(self, untagged: Untagged, *, threads: int) -> None:
        self._untagged = untagged
        self._threads = threads
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> NDArray[np.uint8]:
        """Convert one frame to uint8 RGB (H, W, 3), at its stored size."""
        full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
        rgb = self._reformatter.reformat(
            frame,
            format="rgb24",
            src_colorspace=matrix(frame, self._untagged),
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            threads=self._threads,
        )
        return np.asarray(rgb.to_ndarray(), dtype=np.uint8)


def is_tagged(frame: Any) -> bool:
    """Whether a frame names its YUV matrix."""
    return int(frame.colorspace) in _MATRICES


def matrix(frame: Any, untagged: Untagged) -> Colorspace:
    """Return the YUV matrix of a frame."""
    named = _MATRICES.get(int(frame.colorspace))
    if named is not None:
        return named
    if untagged == "by_size":
        large = frame.width >= 1280 or frame.height > 576
        return Colorspace.ITU709 if large else Colorspace.ITU601
    return Colorspace.ITU709 if untagged == "bt709" else Colorspace.ITU601
