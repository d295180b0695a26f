"""A piece of a video that may become a clip: where it lies, and what a scan saw of it."""

import bisect
import dataclasses
from collections.abc import Sequence

from video_platform.datasets.record import Record
from video_platform.video.scan import Look, Scan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of a readable video."""

    file: Record
    """The whole video."""
    scan: Scan
    """What it holds."""
    start_s: float
    """Where the piece begins, in seconds after the first shown frame."""
    seconds: float
    """How long it lasts."""
    shown_s: float
    """How much of that, from the start, its clip shows."""

    @property
    def still(self) -> bool:
        """Whether there is only one picture."""
        return self.scan.frames == 1

    @property
    def looks(self) -> Sequence[Look]:
        """What the scan saw while the clip lasts; of one between two looks, the look before it."""
        looks = self.scan.samples
        first = bisect.bisect_left(looks, self.start_s - _EARLY_S, key=_time)
        behind = bisect.bisect_left(looks, self.start_s + self.shown_s - _EARLY_S, key=_time)
        return looks[first:behind] or looks[max(first - 1, 0) :][:1]

    @property
    def changes(self) -> list[float]:
        """How much the picture changes from each look to the next; nothing where none follows."""
        looks = self.looks
        within = looks[:-1] or (looks if looks[0] is not self.scan.samples[-1] else ())
        return [look.motion for look in within]

    @property
    def hashes(self) -> list[str]:
        """Hashes of the pictures at start, middle and end of the clip; of an image, of the one."""
        looks = self.looks
        if self.still:
            return [looks[0].hash]
        return [looks[place].hash for place in (0, len(looks) // 2, -1)]


_EARLY_S = 1e-3


def _time(look: Look) -> float:
    return look.time_s
