"""Time and memory of the stages of a longer job."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

SAMPLE_EVERY_S = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageCost:
    """What one stage took."""

    name: str
    """The stage."""
    seconds: float
    """Wall time."""
    peak_bytes: int
    """Most memory of this process and all that it started, each page counted once."""


class Stages:
    """Measures one stage after the other.

    Attributes:
        costs: of the stages that are over.
    """

    def __init__(self) -> None:
        self.costs: list[StageCost] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block."""
        over = threading.Event()
        peak = [memory_in_use()]

        def watch() -> None:
            while not over.wait(SAMPLE_EVERY_S):
                peak[0] = max(peak[0], memory_in_use())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        start = time.monotonic()
        try:
            yield
        finally:
            over.set()
            thread.join()
            seconds = time.monotonic() - start
            peak[0] = max(peak[0], memory_in_use())
            self.costs.append(StageCost(name=name, seconds=seconds, peak_bytes=peak[0]))


def memory_in_use() -> int:
    """Return the memory of this process and its descendants in bytes, shared pages split evenly."""
    total = 0
    process = psutil.Process()
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total
