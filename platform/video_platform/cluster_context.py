"""What a training worker knows of its place in the cluster."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from video_platform.training.attempt import Attempt


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """What a training worker knows of its place."""

    rank: int
    """Number of this worker; 0 speaks for all."""
    world: int
    """How many there are."""
    device: str
    """Where it computes, as torch names it."""
    report: Callable[[Mapping[str, Any]], None]
    """Sends something small to the driver's `on_progress`; called on rank 0, it does not wait."""
    stop_reason: Callable[[], str | None]
    """Why the run should end at the next step boundary: SIGINT or SIGTERM, of the driver or of this
    worker; None while it should not."""
    attempt: Attempt = Attempt()
    """Since when this is going on, and the watchdog."""

    def should_stop(self) -> bool:
        """Whether the run should end at the next step boundary."""
        return self.stop_reason() is not None
