"""What may go wrong in a run, and what is decided about it, apart from the loop.

Decisions are values: the loop acts on them, and tests need no cluster. A step whose loss or
gradient is not finite is never applied. Three in a row, or twenty in a thousand, and the run goes
back to its newest checkpoint and leaves the batches since out; where that happens again and again
it stops.
"""

import dataclasses
import enum
import math
import signal
import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from video_platform.training.config import TrainingConfig

WINDOW = 1000
"""Over how many steps skips and rewinds are counted."""
SETTLED = 10
"""Observations of a scalar before a spike of it can be told."""
SMOOTHING = 0.1
"""Weight of the newest observation in a scalar's moving average and deviation."""

NOTICEABLE_S = 0.05
"""A rank that is slower by less than this is no straggler."""


class Verdict(enum.Enum):
    """What to do after a step."""

    GO_ON = "go on"
    REWIND = "rewind"
    """Go back to the newest checkpoint, and on with the batches that follow."""
    STOP = "stop"


class SkipPolicy:
    """Decides what skipped steps lead to.

    Steps are told by the place of their batch in the data, which only ever goes on.

    Args:
        config: its `max_skipped_steps`, `max_skipped_in_1000` and `max_rewinds`.

    Attributes:
        reason: what led to the last verdict other than to go on, in words.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self._in_a_row, self._in_all = config.max_skipped_steps, config.max_skipped_in_1000
        self._max_rewinds = config.max_rewinds
        self.reason = ""
        self._skipped: list[int] = []
        self._rewinds: list[int] = []

    def judge(self, place: int, *, checkpointed: bool) -> Verdict:
        """Say what to do now that the update of the batch at `place` was not applied.

        Args:
            place: number of the batch.
            checkpointed: whether there is something to go back to.
        """
        self._skipped = [at for at in self._skipped if at > place - WINDOW] + [place]
        self._rewinds = [at for at in self._rewinds if at > place - WINDOW]
        newest = self._skipped[-self._in_a_row :]
        in_a_row = newest == [*range(place - self._in_a_row + 1, place + 1)]
        if not in_a_row and len(self._skipped) < self._in_all:
            return Verdict.GO_ON
        self.reason = (
            f"the loss or gradient of {len(self._skipped)} steps was not finite, after "
            f"{len(self._rewinds)} rewinds"
        )
        if not checkpointed or len(self._rewinds) >= self._max_rewinds:
            return Verdict.STOP
        self._rewinds.append(place)
        self._skipped.clear()
        return Verdict.REWIND

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered, as JSON."""
        return {"skipped": self._skipped, "rewinds": self._rewinds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._skipped, self._rewinds = list(state["skipped"]), list(state["rewinds"])


@dataclasses.dataclass(frozen=True)
class Spike:
    """One scalar far above what it was."""

    name: str
    value: float
    usual: float
    """Its moving average."""
    deviations: float
    """How many mean absolute deviations it lies above that."""


class SpikeWatch:
    """Compares losses and gradient norms with what they were.

    That is a moving average and a moving mean absolute deviation of each scalar. A diffusion loss
    depends on the timestep: a step that tells it by timestep bucket has each bucket watched.

    Args:
        limit: deviations that make a spike; None sees none.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._seen: dict[str, tuple[int, float, float]] = {}

    def note(self, scalars: Mapping[str, float]) -> list[Spike]:
        """Take notice of what was measured, and return the spikes in it."""
        spikes = []
        for name, value in scalars.items():
            if is_watched(name) and math.isfinite(value):
                spike = self._compare(name, value)
                if spike is not None:
                    spikes.append(spike)
        return spikes

    def _compare(self, name: str, value: float) -> Spike | None:
        count, usual, deviation = self._seen.get(name, (0, value, 0.0))
        distance = (value - usual) / max(deviation, 1e-12)
        spiked = self._limit is not None and count >= SETTLED and distance > self._limit
        taken = usual + self._limit * deviation if spiked and self._limit else value
        weight = max(SMOOTHING, 1 / (count + 1))
        deviation += weight * (abs(taken - usual) - deviation)
        self._seen[name] = count + 1, usual + weight * (taken - usual), deviation
        return Spike(name, value, usual, distance) if spiked else None


def is_watched(name: str) -> bool:
    """Say whether a scalar is a training loss or a gradient norm."""
    return name.startswith("loss") or name.endswith("grad_norm")


@dataclasses.dataclass(frozen=True)
class Straggler:
    """A rank that the others wait for."""

    rank: int
    seconds: float
    """What it needs by itself for a step."""
    usual: float
    """What the others need: their median."""


def find_stragglers(seconds: Sequence[float], *, ratio: float, step_s: float) -> list[Straggler]:
    """Return the ranks that are slower than the median of the others.

    Args:
        seconds: of each rank, what it needs by itself for a step.
        ratio: how many times the others' median is too slow.
        step_s: how long a whole step takes; less than a twentieth of it, or than `NOTICEABLE_S`,
            is no matter.
    """
    found = []
    for rank, mine in enumerate(seconds):
        others = [value for other, value in enumerate(seconds) if other != rank]
        usual = statistics.median(others) if others else mine
        if mine > ratio * usual and mine - usual > max(0.05 * step_s, NOTICEABLE_S):
            found.append(Straggler(rank, mine, usual))
    return found


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
