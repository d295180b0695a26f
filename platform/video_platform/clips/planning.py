"""Plan the clips of a source: from files and their scans to clips, each with a bucket or a reason.

    for planned in plan_clips(scanned, config, policy):
        ...   # planned.record is a clip to decode and encode; planned.reason says why there is none

A pure function of the source, its scans and the recipe, so any run over the same source plans the
same clips. Nothing vanishes: every piece of every file comes out once.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from video_platform.clips.config import ClipsConfig
from video_platform.clips.cutting import Stretch, choose, cut
from video_platform.clips.filters import Refuses, begin
from video_platform.clips.piece import Piece
from video_platform.clips.scans import Refusal
from video_platform.datasets.record import Record
from video_platform.video.policy import ClipSize, PixelPolicy
from video_platform.video.scan import Scan

REASONS: dict[str, str] = {
    "left_over": "it is what is left behind the last window, too short for any bucket",
    "one_frame": "it is an image, and no bucket is of one frame",
    "too_short": "it ends before the shortest clip is full",
    "too_small": "it would be enlarged by more than `clips.max_enlarge` in every bucket",
}
"""Why a piece fits no bucket. Other reasons are those of `video.limits` and kinds of filters."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """What becomes of one piece of a file."""

    file: Record
    """The whole file."""
    start_s: float = 0.0
    """Where the piece begins."""
    seconds: float = 0.0
    """How long it lasts; 0 in a file that cannot be read."""
    size: ClipSize | None = None
    """The bucket that it goes to, or would go to if a filter did not refuse it."""
    reason: str = ""
    """Why it is left out; empty when it is taken."""
    detail: str = ""
    """The reason in words, where a file cannot be read."""
    cropped: float = 0.0
    """Share of its picture that is cut off; of the clip that is black with `fit: pad`."""
    shown_s: float = 0.0
    """Seconds of the piece that the clip shows."""
    repeated_s: float = 0.0
    """Seconds of the clip in which the last frame of a short video is repeated."""
    whole: bool = True
    """Whether the clip is what decoding the file from its beginning gives."""

    @property
    def id(self) -> str:
        """The clip's id: the file's, and the time where there may be others, as in media URLs."""
        return self.file.id if self.whole else f"{self.file.id}#t={self.start_s:.3f}"

    def to_json(self) -> dict[str, Any]:
        """Return what is told of it, in plain values."""
        names = ("start_s", "seconds", "shown_s", "repeated_s", "cropped", "reason", "detail")
        return {
            "id": self.id,
            "file": self.file.id,
            "bucket": None if self.size is None else str(self.size),
            **{name: getattr(self, name) for name in names},
        }

    @property
    def record(self) -> Record:
        """The clip."""
        file = None if self.whole else self.file.id
        return dataclasses.replace(
            self.file, id=self.id, file=file, start_s=self.start_s, size=self.size
        )


def plan_clips(
    scanned: Iterable[tuple[Record, Scan | Refusal]], config: ClipsConfig, policy: PixelPolicy
) -> Iterator[Planned]:
    """Say of every piece of every file what becomes of it.

    Args:
        scanned: files in the order of their ids, with what a scan found.
        config: how they are cut, which sizes there are, what is refused.
        policy: how clips will be decoded.
    """
    filters = [(item.kind, begin(item)) for item in config.filters]
    for file, scan in scanned:
        if isinstance(scan, Refusal):
            yield Planned(file=file, reason=scan.reason, detail=scan.error)
            continue
        if scan.hdr and policy.hdr == "reject":
            yield Planned(file=file, seconds=scan.duration_s, reason="hdr")
            continue
        for stretch in cut(scan, config, policy):
            planned = _place(file, scan, stretch, config=config, policy=policy)
            yield planned if planned.reason else _filter(planned, scan, filters)


def _place(
    file: Record, scan: Scan, stretch: Stretch, *, config: ClipsConfig, policy: PixelPolicy
) -> Planned:
    """Put a piece into a bucket."""
    whole = stretch.start_s == 0.0 and stretch.seconds == scan.duration_s
    choice = choose(scan, stretch.seconds, whole=whole, config=config, policy=policy)
    if stretch.rest and choice.reason == "too_short":
        choice = dataclasses.replace(choice, reason="left_over")
    return Planned(
        file=file,
        start_s=stretch.start_s,
        seconds=stretch.seconds,
        whole=config.cut == "whole" or scan.frames == 1,
        **vars(choice),
    )


def _filter(planned: Planned, scan: Scan, filters: Sequence[tuple[str, Refuses]]) -> Planned:
    """Ask the filters about a clip, up to the first that refuses it."""
    piece = Piece(
        file=planned.file,
        scan=scan,
        start_s=planned.start_s,
        seconds=planned.seconds,
        shown_s=planned.shown_s,
    )
    reason = next((kind for kind, refuses in filters if refuses(piece)), "")
    return dataclasses.replace(planned, reason=reason)
