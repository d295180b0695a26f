"""Media made on the spot: every oddity that the tests need, a few kilobytes each."""

import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy


def level(index: int) -> int:
    """Grey level of frame `index`, by which a test recognises it."""
    return 16 + 4 * index


def grey_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames (T, H, W, 3), each of its own grey."""
    levels = np.array([level(index) for index in range(count)], np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def make_video(
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    container: str = "mp4",
    pixel_format: str = "yuv420p",
    ticks: list[int] | None = None,
    prepare=lambda stream: None,
    muxer: dict[str, str] | None = None,
    **options: str,
) -> bytes:
    """Encode frames; `ticks` are their times in ms, else they come 10 a second."""
    with tempfile.NamedTemporaryFile() as file:
        _write(file.name, frames, codec, container, pixel_format, ticks, prepare, muxer, options)
        return Path(file.name).read_bytes()


def _write(name, frames, codec, container, pixel_format, ticks, prepare, muxer, options):
    with av.open(name, "w", format=container, container_options=muxer or {}) as out:
        stream = out.add_stream(codec, rate=10, options={"crf": "10", **options})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        if ticks:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        prepare(stream)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
            frame.pts = ticks[index] if ticks else index
            frame.time_base = Fraction(1, 1000) if ticks else Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def seen(frames: np.ndarray) -> list[int]:
    """Return which of `grey_frames` each frame is."""
    return [round((float(frame.mean()) - 16) / 4) for frame in frames]


@pytest.fixture
def limits() -> MediaLimits:
    return MediaLimits()


@pytest.fixture
def policy() -> PixelPolicy:
    return PixelPolicy(frames=5, height=48, width=64, fps=10.0)


@pytest.fixture(scope="session")
def media():
    """The makers above, for test modules that cannot import this file."""

    class Makers:
        grey = staticmethod(grey_frames)
        video = staticmethod(make_video)
        seen = staticmethod(seen)

    return Makers
