"""The decoders behind one signature: an open video and a policy in, the clip's pictures out.

PyAV reads everything, notices damage and stops as soon as the clip is full. decord gives the same
pixels, bit for bit, for plain 8-bit video in MP4 and Matroska; `why_not_decord` names what it gets
wrong. Both yield pictures as stored: `decode.py` turns and resizes them, for both alike.
"""

import importlib.util
import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from video_platform.video.colour import RgbConverter, is_hdr, is_tagged
from video_platform.video.geometry import Orientation, Picture
from video_platform.video.limits import MediaLimits, reject
from video_platform.video.media import Media, Video
from video_platform.video.picking import FramePicker
from video_platform.video.policy import PixelPolicy


class Shown(NamedTuple):
    """A picture of the clip."""

    picture: Picture
    """RGB as stored, (h, w, 3)."""

    time_s: float
    """When it appears, in seconds after the first frame."""

    repeats: int
    """How many frames of the clip it fills."""


Backend = Callable[[Media, Video, FramePicker, MediaLimits], Iterator[Shown]]

_EIGHT_BITS = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p")


def decode_with_pyav(
    _media: Media, video: Video, picker: FramePicker, limits: MediaLimits
) -> Iterator[Shown]:
    """Decode what the clip needs, as `pick_frames` finds it.

    Raises:
        MediaError: `corrupt` data, or another reason of `limits.REASONS`.
        CannotSeek: frames were left out, and that went wrong.
    """
    to_rgb = RgbConverter(picker.policy, threads=limits.threads)
    for frame, time, repeats in pick_frames(video, picker):
        yield Shown(to_rgb(frame), video.seconds(time), repeats)


def pick_frames(video: Video, picker: FramePicker) -> Iterator[tuple[Any, int, int]]:
    """Decode on until the clip is full, jumping to key frames over what it does not show.

    Yields:
        A frame as PyAV has it, its ticks after the first, how many frames of the clip it fills.

    Raises:
        MediaError: `corrupt` data, or another reason of `limits.REASONS`.
        CannotSeek: frames were left out, and that went wrong.
    """
    on_screen, since, count = video.first, 0, 0
    for frame, time in video.frames(picker):
        if repeats := picker.until(time):
            yield on_screen, since, repeats
        if picker.full:
            return
        on_screen, since, count = frame, time, count + 1
    stay_s = video.stay_s(on_screen, count=count, span=since)
    if repeats := picker.at_end(since, stay_s):
        yield on_screen, since, repeats


def decode_with_decord(
    media: Media, video: Video, picker: FramePicker, limits: MediaLimits
) -> Iterator[Shown]:
    """Decode the picked frames with decord, by their index.

    Raises:
        MediaError: `corrupt` data.
        ValueError: decord would get this video wrong.
    """
    if reason := why_not_decord(video, picker.policy):
        raise ValueError(f"backend = 'decord' cannot read this video rightly: {reason}")
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    source = io.BytesIO(media) if isinstance(media, bytes) else str(media.absolute())
    try:
        reader = decord.VideoReader(source, num_threads=limits.threads)
        chosen = _choose(reader, video, picker)
        pictures = reader.get_batch([index for index, _, _ in chosen]).asnumpy()
    except (decord.DECORDError, RuntimeError) as error:
        raise reject("corrupt", " ".join(str(error).split())[:200]) from None
    for picture, (_, time, repeats) in zip(pictures, chosen, strict=True):
        yield Shown(picture, video.seconds(time), repeats)


def _choose(reader: Any, video: Video, picker: FramePicker) -> list[tuple[int, int, int]]:
    """Pick frames as index, time in ticks and repeats, by decord's table of times."""
    table: np.ndarray[Any, Any] = reader.get_frame_timestamp(range(len(reader)))
    # The table is float32: find back the exact times.
    times = [round(float(start - table[0, 0]) / video.tick) for start, _ in table]
    chosen = []
    for index, next_time in enumerate(times[1:]):
        if repeats := picker.until(next_time):
            chosen.append((index, times[index], repeats))
        if picker.full:
            return chosen
    stay_s = Fraction(float(table[-1, 1] - table[-1, 0]))
    if repeats := picker.at_end(times[-1], stay_s):
        chosen.append((len(times) - 1, times[-1], repeats))
    return chosen


def why_not_decord(video: Video, policy: PixelPolicy, *, entries: int | None = None) -> str | None:
    """Say why decord would get a video wrong; None where it is known to be right.

    Args:
        video: an open one.
        policy: what is to be made of it.
        entries: how many of its index are looked at from either end; None is all, which takes
            0.6 microseconds each.
    """
    if importlib.util.find_spec("decord") is None:
        return "decord is not installed; it has wheels for x86-64 Linux only"
    frame = video.first
    codec = video.stream.codec_context.codec.canonical_name
    if codec not in ("h264", "hevc", "vp9"):
        return f"codec {codec}"
    if not (video.magic[4:8] == b"ftyp" or video.magic[:4] == b"\x1aE\xdf\xa3"):
        return "its first bytes are those of neither MP4 nor Matroska"
    if frame.format.name not in _EIGHT_BITS:
        return f"pixel format {frame.format.name}"
    if video.display.orientation != Orientation():
        return "it is turned or mirrored"
    if is_hdr(frame):
        return "it has a high dynamic range"
    if not is_tagged(frame) and policy.untagged != "bt601":
        return f"it names no YUV matrix, and the policy takes {policy.untagged}"
    if min(frame.width, frame.height) < 16:
        return "its frames are tiny"
    if video.container.duration is None:
        return "its header has no duration"
    index = video.stream.index_entries
    count = len(index)
    ends = count if entries is None else min(entries, count)
    for place in sorted({*range(ends), *range(count - ends, count)}):
        entry = index[place]
        if entry.is_discard:
            return "an edit list hides some of its frames"
        if entry.pos + entry.size > video.container.size:
            return "it is cut off"
    return None


BACKENDS: dict[str, Backend] = {
    "decord": decode_with_decord,
    "pyav": decode_with_pyav,
}
"""Decoding backends by name."""
