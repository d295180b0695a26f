"""Open a media file that nobody vouches for, and read its frames with their times.

The demuxer gets a nameless, read-only stream: it never learns a path, so it can follow no
reference to another file or address; on top of that containers, protocols and codecs are on
allow-lists. Every failure is a `MediaError` with a reason of `limits.REASONS`.

    with open_video(path, limits) as video:
        for frame, seconds_after_first in video.frames():
            ...
"""

import contextlib
import io
import stat
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import av
import av.error
from av.sidedata.sidedata import Type as SideData

from video_platform.errors import MediaError
from video_platform.video.feed import CannotSeek, Feed
from video_platform.video.geometry import Display, Orientation, read_display_matrix
from video_platform.video.images import IMAGE_MAGIC, read_orientation
from video_platform.video.limits import MediaLimits, reject
from video_platform.video.picking import FramePicker

T = TypeVar("T")
Media = Path | bytes
"""A file on disk, or the bytes of one."""

FORMATS = (
    *("avi", "flv", "gif", "matroska", "mov", "mp4", "mpeg", "mpegts", "ogg", "webm"),
    *("jpeg_pipe", "png_pipe", "webp_pipe"),
)
"""Containers that are opened: none of them refers to other files, and all but AVI keep times. The
last are images, videos of one frame."""

CODECS: dict[str, str] = {
    "av1": "libdav1d",
    "gif": "gif",
    "h264": "h264",
    "hevc": "hevc",
    "mjpeg": "mjpeg",
    "mpeg1video": "mpeg1video",
    "mpeg2video": "mpeg2video",
    "mpeg4": "mpeg4",
    "png": "png",
    "prores": "prores",
    "theora": "theora",
    "vp8": "vp8",
    "vp9": "vp9",
    "webp": "webp",
}
"""Codecs that are decoded, by canonical name, and the decoder of each."""

_MAGIC = {
    0: (
        *(b"\x1aE\xdf\xa3", b"GIF8", b"FLV", b"OggS", b"\x00\x00\x01\xba", b"G@"),
        *IMAGE_MAGIC,
    ),
    4: (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp"),
}
_MATROSKA = b"\x1aE\xdf\xa3"
_BUFFER_BYTES = 256 * 1024
_STREAMS = 64  # of a file, of which none is decoded to open it sparingly
_DAMAGED = ("corrupt", "no_frames")
_SANE_ASPECT = 16


class _Nameless:
    """A readable stream without a `name`, which demuxers would resolve references against."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read
        self.seek = stream.seek
        self.tell = stream.tell


class Video:
    """The one video stream of an open file, of which the first frame has been decoded.

    Attributes:
        container: the open PyAV container.
        stream: the stream that players choose when a file holds several.
        feed: the packets that are decoded.
        magic: the first bytes of the file.
        first: the first frame that is shown.
        tick: the unit of its clock, in seconds.
        display: how stored pictures are to be shown.
    """

    def __init__(
        self,
        container: Any,
        *,
        magic: bytes,
        limits: MediaLimits,
        orientation: Orientation | None = None,
        sparing: bool = False,
    ) -> None:
        self.container = container
        self.stream = _video_stream(container, limits)
        if sparing and len(container.streams.video) > 1:
            raise CannotSeek("which of several streams players choose shows when all are decoded")
        self.tick = Fraction(self.stream.time_base)
        self.feed = Feed(container, self.stream, sparing=sparing)
        self.magic = magic
        self._limits = limits
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise reject("no_frames")
        self.first, self._start = first
        self.display = _read_display(self.stream, self.first, limits, orientation)

    def frames(
        self, picker: FramePicker | None = None, *, jumps: bool = True
    ) -> Iterator[tuple[Any, int]]:
        """Decode the frames in the order of their display, each with its ticks after the first.

        They can be walked through once.

        Args:
            picker: what is wanted of them; the first frame comes, and others may be left out that
                it does not pick.
            jumps: whether whole stretches may be left out, too.

        Raises:
            CannotSeek: some were left out, and that went wrong.
            MediaError: the data are damaged, the size changes, or a limit is passed.
        """
        size = (self.first.width, self.first.height)
        if picker is not None:
            self.feed.aim(picker, first=self.first, jumps=jumps)
        yield self.first, 0
        self.feed.jump()
        for number, (frame, time) in enumerate(self._decoded, start=2):
            if number > self._limits.max_frames:
                raise reject("too_many_frames", f"max_frames = {self._limits.max_frames}")
            if (frame.width, frame.height) != size:
                raise reject("size_changes", f"{size} to {(frame.width, frame.height)}")
            if self.seconds(time - self._start) > self._limits.max_duration_s:
                raise reject("too_long", f"max_duration_s = {self._limits.max_duration_s}")
            yield frame, time - self._start
            self.feed.jump()

    def seconds(self, ticks: int) -> float:
        """Return a number of ticks in seconds."""
        return ticks * self.tick.numerator / self.tick.denominator

    def stay_s(self, last: Any, *, count: int, span: int) -> Fraction:
        """Return for how many seconds the last frame stays: as stored, or the mean.

        Args:
            last: the last frame.
            count: the number of frames.
            span: ticks from the first frame to the last.

        Raises:
            CannotSeek: not all frames were counted.
        """
        if last.duration:
            return Fraction(last.duration * self.tick)
        if self.feed.jumped or self.feed.skipped:
            raise CannotSeek("the last frame has no duration")
        return span * self.tick / (count - 1) if count > 1 else Fraction(0)

    def _decode(self) -> Iterator[tuple[Any, int]]:
        """Decode frames with their times in the file, in ticks.

        A time that is missing or not after all before it is taken to be one nominal interval after
        the last one. AVI keeps the order of decoding only, so its decode times are the clock.
        """
        clock = "dts" if self.container.format.name == "avi" else "pts"
        rate = Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)
        interval = max(1, round(1 / (rate * self.tick)))
        before = latest = None
        for frame in self._intact():
            ticks = getattr(frame, clock)
            if ticks is not None and (latest is None or ticks > latest):
                before = latest = ticks
            else:
                before = 0 if before is None else before + interval
            yield frame, before

    def _intact(self) -> Iterator[Any]:
        """Decode packet by packet and refuse whatever is damaged."""
        with _typed(refused="corrupt", damaged="corrupt"):
            for packet in self.feed:
                if packet.is_corrupt:
                    raise reject("corrupt", "a packet is cut off")
                begun = self.feed.rounds
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise reject("corrupt", f"the frame at {frame.time} s")
                    if self.feed.rounds == begun and self.feed.accept(frame):
                        yield frame


def sparing_at_first(attempt: Callable[[bool], T]) -> T:
    """Read a video sparingly, and once more as a whole if that goes wrong.

    Args:
        attempt: does it, told whether to be sparing.
    """
    try:
        return attempt(True)
    except CannotSeek:
        return attempt(False)
    except MediaError as error:
        if error.reason not in _DAMAGED:
            raise
        return attempt(False)


@contextlib.contextmanager
def open_video(media: Media, limits: MediaLimits, *, sparing: bool = False) -> Iterator[Video]:
    """Open a media file, decode the first frame of its video, and close it again.

    Args:
        media: a path, or the bytes of a file.
        limits: what the file may ask of us.
        sparing: whether frames may be left out, and nothing is decoded to learn about the file.

    Raises:
        MediaError: the file is missing, empty, too large, of no allowed format or codec, has no
            video stream or no frame, or its frames have too many pixels.
        CannotSeek: it is one that cannot be read sparingly.
    """
    with _stream(media, limits) as stream:
        magic = stream.read(16)
        stream.seek(0)
        if sparing and not (magic.startswith(_MATROSKA) or magic[4:8] == b"ftyp"):
            raise CannotSeek("its container has no index at hand")
        orientation = read_orientation(stream, magic, limits)
        with _container(stream, magic, limits, sparing=sparing) as container:
            yield Video(
                container, magic=magic, limits=limits, orientation=orientation, sparing=sparing
            )


def _container(stream: BinaryIO, magic: bytes, limits: MediaLimits, *, sparing: bool) -> Any:
    """Open the container that a stream of bytes holds."""
    known = any(magic[at:].startswith(marks) for at, marks in _MAGIC.items())
    options = {
        "format_whitelist": ",".join(FORMATS),
        "protocol_whitelist": "none",
        "codec_whitelist": ",".join(CODECS.values()),
        "max_pixels": str(limits.max_pixels),
    }
    with _typed(refused="unsupported_format", damaged="corrupt" if known else "not_video"):
        return av.open(
            _Nameless(stream),
            options=options,
            stream_options=[{"skip_frame": "all"}] * _STREAMS if sparing else None,
            metadata_errors="replace",
            buffer_size=_BUFFER_BYTES,
        )


def _video_stream(container: Any, limits: MediaLimits) -> Any:
    """Choose the stream that a player would, check it and set up its decoder."""
    stream = container.streams.best("video")
    if stream is None or "attached_pic" in str(stream.disposition):
        kinds = sorted({other.type for other in container.streams})
        raise reject("no_video_stream", f"streams: {', '.join(kinds) or 'none'}")
    context = stream.codec_context
    codec = None if context is None else context.codec.canonical_name
    if codec not in CODECS:
        raise reject("unsupported_codec", f"{codec}; decoded are {', '.join(CODECS)}")
    _check_pixels(context.width, context.height, limits)
    context.options = {
        "max_pixels": str(limits.max_pixels),
        "err_detect": "+crccheck+bitstream+buffer+explode",
    }
    context.thread_count = limits.threads
    # Frame threads would blur which packet a decode time belongs to, AVI's only clock.
    frame_threads = limits.threads > 1 and container.format.name != "avi"
    context.thread_type = "AUTO" if frame_threads else "SLICE"
    return stream


def _read_display(
    stream: Any, frame: Any, limits: MediaLimits, orientation: Orientation | None
) -> Display:
    """Read how a frame is to be shown; square pixels may make it too large."""
    if orientation is None:
        matrix = _display_matrix(frame)
        orientation = Orientation() if matrix is None else read_display_matrix(bytes(matrix))
    aspect = Fraction(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
    if not 1 <= aspect * _SANE_ASPECT <= _SANE_ASPECT**2:
        aspect = Fraction(1)  # damaged: players ignore it too
    display = Display(orientation=orientation, pixel_aspect=aspect)
    width, height = display.size(frame.width, frame.height)
    _check_pixels(width, height, limits)
    return display


def _display_matrix(frame: Any) -> Any:
    try:
        return frame.side_data.get(SideData.DISPLAYMATRIX)
    except ValueError:
        return None  # beside it are data of a kind that PyAV does not know: only images have such


def _check_pixels(width: int, height: int, limits: MediaLimits) -> None:
    if width * height > limits.max_pixels:
        raise reject("too_many_pixels", f"{width} x {height}, max_pixels = {limits.max_pixels}")


@contextlib.contextmanager
def _stream(media: Media, limits: MediaLimits) -> Iterator[BinaryIO]:
    """Open the bytes of a media file after checking what can be checked from outside."""
    if isinstance(media, bytes):
        _check_size(len(media), limits)
        yield io.BytesIO(media)
        return
    try:
        status = media.stat()
        if not stat.S_ISREG(status.st_mode):
            raise reject("not_a_file", str(media))
        _check_size(status.st_size, limits)
        stream = media.open("rb")
    except OSError as error:
        raise reject("not_a_file", f"{media}: {error.strerror}") from None
    with stream:
        yield stream


def _check_size(size_bytes: int, limits: MediaLimits) -> None:
    if size_bytes == 0:
        raise reject("empty_file")
    if size_bytes > limits.max_bytes:
        raise reject("too_large", f"{size_bytes} bytes, max_bytes = {limits.max_bytes}")


@contextlib.contextmanager
def _typed(*, refused: str, damaged: str) -> Iterator[None]:
    """Turn FFmpeg's errors into reasons: `refused` by an allow-list, or `damaged` bytes."""
    try:
        yield
    except MemoryError:
        raise reject("too_much_memory", "max_memory_bytes allows more") from None
    except (av.error.ArgumentError, av.error.PermissionError):
        detail = f"opened are {', '.join(FORMATS)}" if refused == "unsupported_format" else ""
        raise reject(refused, detail) from None
    except av.error.FFmpegError as error:
        raise reject(damaged, error.strerror) from None
