"""Which frames of a video make up a clip, from the times at which they appear.

Frame k of a clip is the one on screen k / fps seconds after the first frame: the latest that has
appeared by then. One millisecond is allowed, because some containers round times to that.
"""

from fractions import Fraction

from video_platform.video.limits import reject
from video_platform.video.policy import PixelPolicy

TOLERANCE_S = Fraction(1, 1000)


class FramePicker:
    """Walks along the frames of a video and says how often each is part of the clip.

    Times are seconds after the first frame.
    """

    def __init__(self, policy: PixelPolicy) -> None:
        self._policy = policy
        self._interval = 1 / Fraction(policy.fps).limit_denominator(1_000_000)
        self._picked = 0

    @property
    def full(self) -> bool:
        """Whether every frame of the clip has been picked."""
        return self._picked == self._policy.frames

    def until(self, next_time: Fraction) -> int:
        """Return how often a frame is in the clip that is on screen until `next_time`."""
        before = self._picked
        while not self.full and self._picked * self._interval + TOLERANCE_S < next_time:
            self._picked += 1
        return self._picked - before

    def at_end(self, last_time: Fraction, duration: Fraction) -> int:
        """Return how often the last frame is in the clip: it appears, stays, and the video ends.

        Raises:
            MediaError: `too_short`, unless the policy repeats the last frame.
        """
        shown = self.until(max(last_time + 2 * TOLERANCE_S, last_time + duration - TOLERANCE_S))
        if not self.full and self._policy.short == "reject":
            needs = f"{self._policy.frames} frames at {self._policy.fps} a second"
            raise reject("too_short", f"it ends after {self._picked}, the clip needs {needs}")
        missing = self._policy.frames - self._picked
        self._picked += missing
        return shown + missing
