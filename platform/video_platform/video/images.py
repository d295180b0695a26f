"""What an image file says of itself before it is decoded: its size, and how it is to be turned.

PyAV knows neither in time: it learns the size from the decoder, and cannot read EXIF data.
"""

import struct
from typing import BinaryIO

from PIL import Image

from video_platform.video.geometry import Orientation
from video_platform.video.limits import MediaLimits, reject

IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")
"""What JPEG, PNG and WebP files begin with; so does AVI, which holds no EXIF data."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Orientation(flip_x=True),
    3: Orientation(flip_x=True, flip_y=True),
    4: Orientation(flip_y=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, flip_x=True),
    7: Orientation(transpose=True, flip_x=True, flip_y=True),
    8: Orientation(transpose=True, flip_y=True),
}
"""By EXIF's number (CIPA DC-008, 4.6.4 A); 1 is upright."""


def read_orientation(stream: BinaryIO, magic: bytes, limits: MediaLimits) -> Orientation | None:
    """Return how an image is to be turned, and rewind; None where there is no EXIF data.

    Raises:
        MediaError: `too_many_pixels`.
    """
    if not magic.startswith(IMAGE_MAGIC):
        return None
    try:
        with Image.open(stream, formats=("JPEG", "PNG", "WEBP")) as image:
            width, height = image.size
            turn: int = image.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError):
        return None  # no such image, or damaged: whether it can be decoded shows later
    finally:
        stream.seek(0)
    if width * height > limits.max_pixels:
        raise reject("too_many_pixels", f"{width} x {height}, max_pixels = {limits.max_pixels}")
    return _TURNS.get(turn)
