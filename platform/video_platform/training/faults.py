"""What may go wrong in a run, and what is decided about it, apart from the loop."""

import dataclasses
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from video_platform.errors import TrainingError


class SkipWatch:
    """Counts steps whose gradient was not finite; a run that only skips must not look healthy.

    Args:
        limit: skipped steps in a row that are too many.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_a_row = 0

    def note(self, skipped: Sequence[str], *, step: int) -> None:
        """Take notice of the networks whose update was skipped at a step, none if all is well.

        Raises:
            TrainingError: it was one too many.
        """
        self._in_a_row = self._in_a_row + 1 if skipped else 0
        if self._in_a_row >= self._limit:
            raise TrainingError(
                f"the gradient of {', '.join(skipped)} was not finite for {self._in_a_row} steps "
                f"in a row up to step {step}; lower learning_rate, set clip_norm, or look at the "
                "samples named in the log (max_skipped_steps is the limit)"
            )


@dataclasses.dataclass
class StopFlag:
    """Whether somebody asked the run to end."""

    raised: bool = False


@contextmanager
def stop_on_sigterm() -> Iterator[StopFlag]:
    """Turn SIGTERM into a flag inside the block, so that a run ends at a step boundary.

    Only the main thread can do this; elsewhere the flag stays down.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def raise_flag(number: int, frame: FrameType | None) -> None:
        flag.raised = True

    before = signal.signal(signal.SIGTERM, raise_flag)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGTERM, before)
