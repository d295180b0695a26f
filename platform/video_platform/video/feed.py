"""What a decoder is fed: every packet of a video, or only those that the frames of a clip need.

A clip needs few of the frames of its file. Two kinds of others are left out, and neither changes
a pixel of those that stay:

* Whole stretches before a key frame from which decoding may begin. The container's index leads to
  it; the packet itself must say that nothing after it looks back (`entries.starts_anew`).
* Frames that no other frame refers to and that no moment of the clip shows (H.264 only). Packets
  are read a little ahead, so it is known which frame follows which on the screen.

Whatever does not add up on the way raises `CannotSeek`, and the caller decodes from the start.
"""

import bisect
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av.error

from video_platform.video.entries import ENTRIES, parameter_sets, starts_anew
from video_platform.video.picking import FramePicker

_AHEAD = 16  # packets read ahead; with fewer, more frames are decoded in vain, none wrongly
_INDEXED = ("mov", "matroska")
_ONE_FRAME_A_PACKET = ("h264", "hevc")
_MAX_TRIES = 8
_NEVER = -(1 << 63)
_WORTH_A_LOOK_S = Fraction(1, 2)


class CannotSeek(Exception):
    """A clip cannot be reached by leaving frames out; the message says why."""


class Feed:
    """The packets of one stream in the order of decoding.

    Without an aim all of them come. `aim` leaves out what a clip does not need.

    Attributes:
        jumped: whether some stretch of the file was left out.
        skipped: whether some frame in what was read was left out.
        num_shown: how many frames there are in what was read since `aim`, left out or not; of use
            for a codec with one frame a packet.
        rounds: how often reading began; what was decoded in an earlier round is of no use.
    """

    def __init__(self, container: Any, stream: Any, *, sparing: bool) -> None:
        self.jumped = False
        self.skipped = False
        self.num_shown = 0
        self.rounds = 0
        self._sparing = sparing
        self._container = container
        self._stream = stream
        self._context = stream.codec_context
        self._codec = self._context.codec.canonical_name
        self._picker: FramePicker | None = None
        self._plain = True
        self._sets: set[int] | None = None
        self._due: list[int] = []
        self._last: int | None = None
        self._failure: Exception | None = None
        self._restart()

    def aim(self, picker: FramePicker, *, first: Any, jumps: bool = True) -> None:
        """Leave out what a clip does not need from now on, if the feed is a sparing one.

        Args:
            picker: what the clip needs.
            first: the first frame that is shown, and the only one decoded so far.
            jumps: whether whole stretches may be left out.

        Raises:
            CannotSeek: container, codec or the first frames allow no sparing.
        """
        if not self._sparing:
            return
        container = self._container.format.name.partition(",")[0]
        if container not in _INDEXED or self._codec not in ENTRIES:
            raise CannotSeek(f"{self._codec} in {container} is read from its start")
        if not self._plain or first.pts is None:
            raise CannotSeek("its first frames have no times, or are hidden")
        self._picker = picker
        self._first = self._shown = first.pts
        self._last = first.pts
        if self._codec in _ONE_FRAME_A_PACKET:
            self._due = [pts for pts in self._times if pts > first.pts]
        self._skips = self._codec == "h264" and not first.interlaced_frame
        self._index_is_whole = container == "mov"
        self._jumps = jumps
        self.num_shown = sum(pts >= first.pts for pts in self._times)
        self._read_ahead()
        if self._times[0] < first.pts:
            raise CannotSeek("its first frame is not the first that is shown")

    def __iter__(self) -> Iterator[Any]:
        """Yield packets; after a jump they go on from there."""
        while (packet := self._next()) is not None:
            yield packet

    def accept(self, frame: Any) -> bool:
        """Say whether a decoded frame is one to show; it may come from before a jump's landing.

        Raises:
            CannotSeek: it is not the frame that was due.
        """
        if self._picker is None:
            return True
        pts = frame.pts
        if pts is None:
            raise CannotSeek("a frame has no time")
        if pts < self._landing:
            return False  # it leads up to the key frame, and may show what lies before
        if self._last is None and pts > self._landing:
            raise CannotSeek("decoding does not begin at the key frame that was jumped to")
        if self._last is not None and pts <= self._last:
            raise CannotSeek("its frames do not come in the order of their times")
        if any(self._landing <= packet.pts < pts for packet in self._ahead if packet.size):
            raise CannotSeek("a frame comes before one that is shown earlier")
        self._last = pts
        while self._due and self._due[0] <= pts:
            if self._due.pop(0) < pts:
                raise CannotSeek("a frame was lost")
        if pts <= self._shown:
            return False
        self._shown = pts
        return True

    def jump(self) -> None:
        """Go to the last key frame at or before the next moment of the clip, if it lies ahead.

        Raises:
            CannotSeek: there is a key frame, but decoding may not begin there.
        """
        if self._picker is None or self._picker.full or not self._jumps:
            return
        target = self._first + self._picker.next
        if target <= self._latest:
            return
        if self._index_is_whole:
            entries = self._stream.index_entries
            place = entries.search_timestamp(target)
            if place < 0 or entries[place].timestamp <= self._latest:
                return
        elif (target - self._shown) * self._stream.time_base < _WORTH_A_LOOK_S:
            return
        landing = self._land(target)
        self._jumps = landing > self._shown or not self._index_is_whole
        self._index_is_whole = self.jumped = True

    def _land(self, target: int) -> int:
        """Seek to where decoding may begin, and return the time of the first frame from there."""
        reorder_depth = self._context.reorder_depth
        offset = target
        for _ in range(_MAX_TRIES):
            try:
                self._container.seek(offset, stream=self._stream)
            except av.error.FFmpegError as error:
                raise CannotSeek(f"seeking failed: {error.strerror}") from None
            self._restart()
            self._read_ahead()
            packet = self._ahead[0] if self._ahead else None
            if packet is None or packet.pts is None:
                raise CannotSeek("there is no time at the key frame")
            if packet.pts <= target and self._may_begin_at(packet):
                self._context.reorder_depth = reorder_depth
                self._landing = int(packet.pts)
                return self._landing
            if packet.pts <= self._first:
                break
            offset = min(offset, packet.pts if packet.dts is None else packet.dts) - 1
        raise CannotSeek("its key frames are no points from which decoding may begin")

    def _may_begin_at(self, packet: Any) -> bool:
        """Whether a packet looks back at no frame and at no parameter sets within the stream."""
        if not packet.is_keyframe:
            return False
        where = bytes(packet), self._codec, self._context.extradata or b""
        return starts_anew(*where) and parameter_sets(*where) >= (self._sets or set())

    def _next(self) -> Any:
        """Return the next packet, None behind the last, and tell the decoder what to skip."""
        if self._picker is None:
            packet = next(self._source, None)
            self._note(packet)
            return packet
        self._read_ahead()
        packet = self._ahead.popleft() if self._ahead else None
        if packet is None and self._failure is not None:
            raise self._failure
        if packet is None or not packet.size:
            return packet  # an empty one makes the decoder give what it holds
        if packet.is_discard:
            raise CannotSeek("an edit list hides some of its frames")
        pts = packet.pts
        self.num_shown += pts >= self._first
        if self._skips:
            needed = self._is_needed(self._picker, pts)
            self._context.skip_frame = "DEFAULT" if needed else "NONREF"
            if not needed:
                self.skipped = True
                return packet
        if self._codec in _ONE_FRAME_A_PACKET and pts >= self._landing:
            bisect.insort(self._due, pts)
        return packet

    def _note(self, packet: Any) -> None:
        """Remember what `aim` has to know of a packet that is fed before it."""
        if packet is None or not packet.size or not self._plain:
            return
        if self._sets is None:
            self._sets = parameter_sets(bytes(packet), self._codec, self._context.extradata or b"")
        pts = packet.pts
        if pts is None or packet.is_discard or pts in self._times or len(self._times) > 8 * _AHEAD:
            self._plain = False
        else:
            bisect.insort(self._times, pts)

    def _is_needed(self, picker: FramePicker, pts: int) -> bool:
        """Whether the clip may show the frame of a time; no only when another one hides it."""
        after = bisect.bisect_right(self._times, pts)
        if after == len(self._times):
            return True
        return picker.needs(pts - self._first, self._times[after] - self._first)

    def _read_ahead(self) -> None:
        while len(self._ahead) <= _AHEAD and self._failure is None:
            try:
                packet = next(self._source, None)
            except av.error.FFmpegError as error:
                self._failure = error  # it is raised when the packets before it have been decoded
                return
            if packet is None:
                return
            self._ahead.append(packet)
            if not packet.size:
                return
            pts = packet.pts
            if pts is None:
                raise CannotSeek("a packet has no time")
            place = bisect.bisect_left(self._times, pts)
            if self._times[place : place + 1] == [pts]:
                raise CannotSeek("two frames have the same time")
            self._times.insert(place, pts)
            self._latest = self._times[-1]
        if len(self._times) > 16 * _AHEAD:
            del self._times[: -4 * _AHEAD]

    def _restart(self) -> None:
        """Read on from where the container stands."""
        self._source = self._container.demux(self._stream)
        self._ahead: deque[Any] = deque()
        self._failure = None
        self._times: list[int] = []
        self._due = []
        self._latest = self._landing = _NEVER
        self._last = None
        self.rounds += 1
