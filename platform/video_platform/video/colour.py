"""Decoded frames to RGB: matrix and range as the video names them, else as the policy says.

High dynamic range (PQ, HLG) is refused or has its tones mapped (`tone.py`), as the policy says.
"""

from typing import Any

import numpy as np
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    VideoReformatter,
)
from numpy.typing import NDArray

from video_platform.video.limits import reject
from video_platform.video.policy import PixelPolicy, Untagged
from video_platform.video.tone import to_standard_range

# Matrix coefficients as numbered in ISO/IEC 23091-2, table 4; 2 means unspecified, 0 is RGB.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
_UNNAMED = (0, 2, 3)


class RgbConverter:
    """Converts the frames of one video; keeps the scaler's tables between frames."""

    def __init__(self, policy: PixelPolicy, *, threads: int) -> None:
        self._policy = policy
        self._threads = threads
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> NDArray[np.uint8]:
        """Convert one frame to uint8 RGB (H, W, 3), at its stored size.

        Raises:
            MediaError: `hdr`, the policy refuses a high dynamic range; `unsupported_colour`.
        """
        if not is_hdr(frame):
            return self._to_rgb(frame, "rgb24", np.uint8)
        if self._policy.hdr == "reject":
            raise reject("hdr", f"hdr = {self._policy.hdr!r}")
        return to_standard_range(
            self._to_rgb(frame, "rgb48le", np.uint16),
            hlg=int(frame.color_trc) == ColorTrc.ARIB_STD_B67,
            wide=int(frame.color_primaries) != ColorPrimaries.BT709,
        )

    def _to_rgb(self, frame: Any, pixel_format: str, dtype: type) -> NDArray[Any]:
        """Return R'G'B' (H, W, 3), a view of what the scaler wrote."""
        rgb = self._reformatter.reformat(
            frame,
            format=pixel_format,
            src_colorspace=matrix(frame, self._policy.untagged),
            src_color_range=ColorRange.JPEG if has_full_range(frame) else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            threads=self._threads,
        )
        data: NDArray[Any] = np.asarray(memoryview(rgb.planes[0])).view(dtype)
        rows = data.reshape(rgb.height, -1)
        return rows[:, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3)


def has_full_range(frame: Any) -> bool:
    """Whether the values of a frame go from 0 to the highest; else they are those of television."""
    return int(frame.color_range) == ColorRange.JPEG or frame.format.name.startswith("yuvj")


def is_hdr(frame: Any) -> bool:
    """Whether a frame has a high dynamic range: the transfer function PQ or HLG."""
    return frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)


def is_tagged(frame: Any) -> bool:
    """Whether a frame names its YUV matrix."""
    return int(frame.colorspace) not in _UNNAMED


def matrix(frame: Any, untagged: Untagged) -> Colorspace:
    """Return the YUV matrix of a frame.

    Raises:
        MediaError: `unsupported_colour`, it names one that is not converted.
    """
    if is_tagged(frame):
        number = int(frame.colorspace)
        if number not in _MATRICES:
            raise reject("unsupported_colour", f"matrix {number} of ISO/IEC 23091-2")
        return _MATRICES[number]
    if is_hdr(frame):
        return Colorspace.BT2020
    if untagged == "by_size":
        large = frame.width >= 1280 or frame.height > 576
        return Colorspace.ITU709 if large else Colorspace.ITU601
    return Colorspace.ITU709 if untagged == "bt709" else Colorspace.ITU601
