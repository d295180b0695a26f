"""Where pixels go: orientation, pixel aspect, and the one resampling to the policy's size.

A stored picture is turned upright first (exactly), then its pixels are made square, cropped or
padded and resized in a single resampling, so that nothing is filtered twice. Every decoding
backend goes through here, which is why the choice of backend changes no pixel.
"""

import dataclasses
import struct
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from video_platform.video.limits import reject
from video_platform.video.policy import PixelPolicy

Picture = NDArray[np.uint8]  # (H, W, 3)

FILTERS: dict[str, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Orientation:
    """One of the eight ways to lay a picture: swap rows and columns, then flip."""

    transpose: bool = False
    """Rows become columns."""

    flip_x: bool = False
    """Then left and right are exchanged."""

    flip_y: bool = False
    """Then top and bottom are exchanged."""

    @property
    def mirrored(self) -> bool:
        """Whether the display is a mirror image of what is stored."""
        return self.transpose ^ self.flip_x ^ self.flip_y

    @property
    def rotation(self) -> int:
        """Degrees clockwise from the stored to the displayed picture, after any mirroring."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def apply(self, picture: Picture) -> Picture:
        """Turn a stored picture upright: a view, nothing is copied."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)
        if self.flip_x:
            picture = picture[:, ::-1]
        if self.flip_y:
            picture = picture[::-1]
        return picture


def read_display_matrix(data: bytes) -> Orientation:
    """Read FFmpeg's display matrix: 3 x 3 native-endian int32, of which the upper 2 x 2 count.

    Raises:
        MediaError: `bad_rotation`, the matrix is no quarter turn or mirror.
    """
    if len(data) != 36:
        raise reject("bad_rotation", f"a display matrix of {len(data)} bytes")
    xx, xy, _, yx, yy, *_ = struct.unpack("=9i", data)
    if xx and yy and not (xy or yx):
        return Orientation(flip_x=xx < 0, flip_y=yy < 0)
    if xy and yx and not (xx or yy):
        return Orientation(transpose=True, flip_x=yx < 0, flip_y=xy < 0)
    raise reject("bad_rotation", f"display matrix {xx, xy, yx, yy}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Display:
    """How a stored picture is shown."""

    orientation: Orientation = Orientation()
    """How it is turned."""

    pixel_aspect: Fraction = Fraction(1)
    """Width over height of a stored pixel."""

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height as displayed, of a picture of a stored size."""
        shown = max(1, round(width * self.pixel_aspect)), height
        return shown[::-1] if self.orientation.transpose else shown

    def fit(self, picture: Picture, policy: PixelPolicy) -> Picture:
        """Show a stored picture (h, w, 3) in the policy's size (H, W, 3); perhaps a view of it."""
        upright = self.orientation.apply(picture)
        aspect = float(self.pixel_aspect)
        if self.orientation.transpose:
            aspect = 1 / aspect
        if aspect == 1 and upright.shape[:2] == (policy.height, policy.width):
            return upright
        place = _crop if policy.fit == "crop" else _pad
        return place(Image.fromarray(np.ascontiguousarray(upright)), aspect, policy)


def _crop(image: Image.Image, aspect: float, policy: PixelPolicy) -> Picture:
    """Cover the target and cut its centre out, in one resampling."""
    shown_width = image.width * aspect
    scale = max(policy.width / shown_width, policy.height / image.height)
    kept_width = min(image.width, policy.width / scale / aspect)
    kept_height = min(image.height, policy.height / scale)
    left, top = (image.width - kept_width) / 2, (image.height - kept_height) / 2
    box = (left, top, left + kept_width, top + kept_height)
    size = (policy.width, policy.height)
    return np.asarray(image.resize(size, FILTERS[policy.resize], box=box))


def _pad(image: Image.Image, aspect: float, policy: PixelPolicy) -> Picture:
    """Fit inside the target, centred on black."""
    shown_width = image.width * aspect
    scale = min(policy.width / shown_width, policy.height / image.height)
    width = min(policy.width, max(1, round(shown_width * scale)))
    height = min(policy.height, max(1, round(image.height * scale)))
    left, top = (policy.width - width) // 2, (policy.height - height) // 2
    padded = np.zeros((policy.height, policy.width, 3), np.uint8)
    resized = image.resize((width, height), FILTERS[policy.resize])
    padded[top : top + height, left : left + width] = np.asarray(resized)
    return padded
