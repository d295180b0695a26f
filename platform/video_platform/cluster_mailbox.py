"""What workers and driver tell each other while a run lasts, through an actor beside the driver.

Workers leave progress, the result and failures there; the driver leaves its wish to stop. The actor
sits on the driver's machine, so that no loss of a worker's machine takes it along.
"""

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from video_platform.errors import VdpError

SAME = 3
"""So many attempts that end alike, none a step further than those before, and the next would."""


@dataclasses.dataclass(frozen=True)
class Notice:
    """Something for the driver's log."""

    text: str


@dataclasses.dataclass(frozen=True)
class Failure:
    """What one rank met."""

    rank: int
    error: VdpError | None
    """Where it is one of ours."""
    text: str
    """Its traceback, or the stacks of a process that hung."""

    @property
    def final(self) -> bool:
        """Whether another attempt would only meet it again."""
        return self.error is not None and not self.error.passing

    @property
    def line(self) -> str:
        """What it was, in one line."""
        if self.error is not None:
            return str(self.error)
        return self.text.strip().rpartition("\n")[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """What a worker is told when it begins."""

    ended: bool
    """The run has failed for good; there is nothing to do."""
    last_seen_s: float | None
    """When an earlier attempt last told something, in seconds since 1970."""


class Mailbox:
    """The actor itself; one for each run."""

    def __init__(self) -> None:
        import asyncio

        self._progress: asyncio.Queue[Mapping[str, Any] | Notice] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._stop_reason: str | None = None
        self._result: Any = None
        self._attempt: str | None = None
        self._attempts = self._alike = self._furthest = 0
        self._moved = False
        self._line: str | None = None
        self._failures: list[Failure] = []
        self._final: Failure | None = None
        self._seen_s: float | None = None
        self._seen_before_s: float | None = None

    async def begin(self, attempt: str) -> Entry:
        """Let a worker in; the first one of an attempt ends the attempt before."""
        if attempt != self._attempt:
            self._look_back()
            self._attempt, self._failures, self._moved = attempt, [], False
            self._seen_before_s, self._seen_s = self._seen_s, time.time()
            self._attempts += 1
            if self._attempts > 1 and self._final is None:
                self._progress.put_nowait(Notice(f"workers start again, attempt {self._attempts}"))
        return Entry(ended=self._final is not None, last_seen_s=self._seen_before_s)

    async def report(self, progress: Mapping[str, Any]) -> None:
        """Take news for the driver; where they tell a `step`, it shows whether the run gets on."""
        self._seen_s = time.time()
        step = progress.get("step", 0)
        if step > self._furthest:
            self._furthest, self._moved = step, True
        self._progress.put_nowait(progress)

    async def drain(self, wait_s: float) -> list[Mapping[str, Any] | Notice]:
        """Return what was reported; wait a little if there is nothing."""
        import asyncio

        items = []
        if wait_s > 0 and self._progress.empty():
            with contextlib.suppress(asyncio.TimeoutError):
                items.append(await asyncio.wait_for(self._progress.get(), wait_s))
        while not self._progress.empty():
            items.append(self._progress.get_nowait())
        return items

    async def finish(self, result: Any) -> None:
        """Take the result of the run."""
        self._result = result

    async def result(self) -> Any:
        """Return the result; None where there is none."""
        return self._result

    async def fail(self, failure: Failure) -> None:
        """Note what a rank met."""
        if not self._failures:
            self._progress.put_nowait(Notice(f"worker {failure.rank}: {failure.line}"))
        self._failures.append(failure)
        if failure.final and self._final is None:
            self._final = failure

    async def failures(self) -> list[Failure]:
        """Return what ranks of the newest attempt met; the first one is the cause of the others."""
        return self._failures

    async def final(self) -> Failure | None:
        """Return the failure that no other attempt could mend, if there was one."""
        return self._final

    def _look_back(self) -> None:
        """End the run where attempts end alike, by an error that is not ours, and none gets on."""
        first = next(iter(self._failures), None)
        line = first.line if first and first.error is None and not self._moved else None
        self._alike = self._alike + 1 if line and line == self._line else 1
        self._line = line
        if line and self._alike >= SAME and self._final is None:
            self._final = first

    async def stop(self, reason: str) -> None:
        """Ask all workers to end at the next step boundary."""
        self._stop_reason = self._stop_reason or reason
        self._stop.set()

    async def until_stop(self) -> str:
        """Return why the workers should end, once they should."""
        await self._stop.wait()
        return self._stop_reason or ""


def open_mailbox() -> Any:
    """Start a mailbox on this machine."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()
