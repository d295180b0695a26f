"""One life of a run: from a start of its workers to their end.

A run outlives its workers: they are started again after a failure and go on from the newest
checkpoint. What the training loop cannot know by itself of such a life is gathered here.
"""

import dataclasses
import time
from collections.abc import Callable


def _nobody(doing: str) -> None:
    """Nobody watches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """What a worker knows of the life that it is in; times are seconds since 1970."""

    began_s: float = dataclasses.field(default_factory=time.time)
    """When the driver began."""
    entered_s: float = dataclasses.field(default_factory=time.time)
    """When this worker began."""
    last_seen_s: float | None = None
    """When an earlier life of the same driver last told something; None for the first."""
    alive: Callable[[str], None] = _nobody
    """Tells the watchdog what is being done now, such as `step 5`; whoever works long without a
    step, as in a validation, calls it now and then."""
