"""Which frames of a video make up a clip, from the times at which they appear.

Frame k of a clip is the one on screen k / fps seconds after the clip's start, which is counted from
the first frame of the video: the latest that has appeared by then. One millisecond is allowed,
because some containers round times to that.
"""

import bisect
import math
from fractions import Fraction

from video_platform.video.limits import reject
from video_platform.video.policy import PixelPolicy

TOLERANCE_S = Fraction(1, 1000)


class FramePicker:
    """Walks along the frames of a video and says how often each is part of the clip.

    Times are whole ticks of the video's clock after its first frame.

    Attributes:
        policy: what the clip is made to.
    """

    def __init__(self, policy: PixelPolicy, *, tick: Fraction, start_s: float = 0.0) -> None:
        if not (math.isfinite(start_s) and start_s >= 0):
            raise ValueError(f"start_s = {start_s!r}; it must be a number of at least 0")
        self.policy = policy
        self._tick = tick
        self._start = Fraction(start_s).limit_denominator(1_000_000)
        self._interval = 1 / Fraction(policy.fps).limit_denominator(1_000_000)
        self._moments = _floors(
            (self._start + TOLERANCE_S) / tick, self._interval / tick, policy.frames
        )
        self._picked = 0

    @property
    def full(self) -> bool:
        """Whether every frame of the clip has been picked."""
        return self._picked == self.policy.frames

    @property
    def next(self) -> int:
        """The last tick at which a frame may appear to be the next that is picked."""
        return self._moments[self._picked]

    def needs(self, appears: int, hidden: int) -> bool:
        """Whether a frame that is on screen for that time has a part in the rest of the clip."""
        coming = bisect.bisect_left(self._moments, appears, self._picked)
        return coming < len(self._moments) and self._moments[coming] < hidden

    def until(self, next_time: int) -> int:
        """Return how often a frame is in the clip that is on screen until `next_time`."""
        before = self._picked
        self._picked = bisect.bisect_left(self._moments, next_time, before)
        return self._picked - before

    def at_end(self, last_time: int, duration_s: Fraction) -> int:
        """Return how often the last frame is in the clip: it appears, stays, and the video ends.

        Raises:
            MediaError: `too_short`, unless the policy repeats the last frame and it is in the clip.
        """
        before, appears = self._picked, last_time * self._tick
        end = appears + max(2 * TOLERANCE_S, duration_s - TOLERANCE_S)
        while not self.full and self._start + self._picked * self._interval + TOLERANCE_S < end:
            self._picked += 1
        if not self.full and (self.policy.short == "reject" or not self._picked):
            needs = f"{self.policy.frames} frames at {self.policy.fps} a second"
            needs += f" from {float(self._start):g} s on" if self._start else ""
            raise reject("too_short", f"it ends after {self._picked}, the clip needs {needs}")
        self._picked = self.policy.frames
        return self._picked - before


def _floors(first: Fraction, step: Fraction, count: int) -> list[int]:
    """Return `first` + k * `step`, rounded down, for k from 0 to `count` - 1."""
    scale = math.lcm(first.denominator, step.denominator)
    start, stride = int(first * scale), int(step * scale)
    return [(start + k * stride) // scale for k in range(count)]
