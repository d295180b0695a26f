"""Ray actors in pools, any of which may die at any time, and the calls that they work on.

Ray itself restarts nothing here. Whoever put a call learns from its answer that the actor died,
tells the pool, and gives the work to another actor; the pool starts a fresh one, on any machine
that has room. A machine that is lost is no more than the actors that were on it.
"""

import dataclasses
import functools
import operator
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from video_platform.errors import ClusterError, SourceError, StorageError
from video_platform.latents.calls import ASIDE, Calls, Worker, reason
from video_platform.latents.work import Outcome, Work

RETRIES = 3
"""How many actors in a row may die before one is ready."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seat:
    """What one actor of a pool takes of the cluster."""

    cpus: float
    """CPUs."""
    gpus: float = 0.0
    """GPUs."""

    def __str__(self) -> str:
        """Spell it for a message."""
        return f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")


def start_actor(kind: type, seat: Seat, *arguments: Any) -> Any:
    """Start an actor of a class and return its handle, which may not be ready yet."""
    import ray

    remote = ray.remote(
        num_cpus=seat.cpus,
        num_gpus=seat.gpus,
        max_restarts=0,
        scheduling_strategy="SPREAD",  # decoders on every machine that encodes
        concurrency_groups={ASIDE: 1},
        enable_task_events=False,  # a line for each call would pile up in Ray's head
    )(kind)
    return remote.remote(*arguments)


class Pool:
    """Actors of one kind.

    Attributes:
        name: what messages call them.
        ready: those that can be called.
        size: how many there are to be.
        calls: what they work on.
    """

    def __init__(
        self,
        name: str,
        seat: Seat,
        start: Callable[[], Any],
        *,
        admit: Callable[[Any], None],
        calls: Calls,
        timeout_s: float,
    ) -> None:
        """Note how actors are made; `size` of them are started by `keep`.

        Args:
            name: what messages call them.
            seat: what each takes of the cluster.
            start: makes one, with the options of its seat; it has a method `ready`, which returns
                its machine and anything else.
            admit: is given that anything before the actor is used; may raise.
            calls: what they work on.
            timeout_s: how long there may be no actor at all.
        """
        self.name = name
        self.size = 0
        self.ready: list[Worker] = []
        self._seat = seat
        self._make = start
        self._admit = admit
        self.calls = calls
        self._timeout_s = timeout_s
        self._starting: list[Worker] = []
        self._leaving: list[Worker] = []
        self._failed_starts = 0
        self._none_since_s = time.monotonic()

    @property
    def waiting(self) -> int:
        """How many actors were asked for and are not ready."""
        return len(self._starting)

    @property
    def busy(self) -> int:
        """How many have something to do."""
        return sum(worker.calls > 0 for worker in self.ready)

    def free(self, most_calls: int, *, aside: bool = False) -> list[Worker]:
        """List those that have less than so many calls, the idlest first."""
        load = operator.attrgetter("aside" if aside else "calls")
        return sorted((item for item in self.ready if load(item) < most_calls), key=load)

    def keep(self) -> None:
        """Start or end actors until there are `size`, those that are not ready among them.

        Raises:
            ClusterError: there was none for too long, or none lived to be ready.
        """
        if self.ready:
            self._none_since_s = time.monotonic()
        elif self.size and time.monotonic() - self._none_since_s > self._timeout_s:
            raise ClusterError(self._no_room())
        surplus = len(self.ready) + len(self._starting) - self.size
        for _ in range(-surplus):
            self._start()
        for worker in [*reversed(self._starting), *self.free(1 << 30)][: max(surplus, 0)]:
            self._dismiss(worker)
        for worker in [worker for worker in self._leaving if not worker.calls + worker.aside]:
            self.lose(worker)

    def lose(self, worker: Worker) -> None:
        """Take note that an actor is dead, or make it so; `keep` starts another."""
        import ray

        for workers in (self.ready, self._starting, self._leaving):
            if worker in workers:
                workers.remove(worker)
                ray.kill(worker.actor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in (*self.ready, *self._starting, *self._leaving):
            self.lose(worker)

    def _start(self) -> None:
        worker = Worker(self._make())
        self._starting.append(worker)
        self.calls.put(worker, worker.actor.ready.remote(), lambda answer: began(answer))

        def began(answer: Any) -> None:
            if worker in self._starting:  # else it was sent home before it came
                self._begin(worker, answer)

    def _begin(self, worker: Worker, answer: Any) -> None:
        """Take in an actor that is ready, or that died on the way."""
        import ray

        try:
            worker.node, said = ray.get(answer)
        except ray.exceptions.RayActorError as error:
            self.lose(worker)
            self._failed_starts += 1
            if self._failed_starts > RETRIES:
                raise ClusterError(f"{self.name} die as they start: {reason(error)}") from None
            return
        self._failed_starts = 0
        self._admit(said)
        self._starting.remove(worker)
        self.ready.append(worker)

    def _dismiss(self, worker: Worker) -> None:
        """End an actor, one at work when it has answered."""
        if worker in self._starting:
            self.lose(worker)
        else:
            self.ready.remove(worker)
            self._leaving.append(worker)

    def _no_room(self) -> str:
        import ray

        total = ray.cluster_resources()
        return (
            f"no actor started within cache.start_timeout_s = {self._timeout_s:g}: there are to be "
            f"{self.size} {self.name} x {self._seat}; the cluster has {total.get('CPU', 0):g} CPUs "
            f"and {total.get('GPU', 0):g} GPUs for all actors. Lower cache.decoders, "
            "cache.encoders or their CPUs, or start a larger cluster"
        )


def run_units(
    pool: Pool,
    work: Sequence[Work],
    call: Callable[[Any, Work], Any],
    on_outcome: Callable[[Outcome], None],
) -> list[Exception]:
    """Give every unit to an idle actor of a pool until all are done.

    Args:
        pool: who does them.
        work: the units.
        call: starts the work on an actor and returns the reference of its outcome.
        on_outcome: is told of each unit that is done.

    Returns:
        of each unit that is left to the next run, the reason.
    """
    import ray

    todo, left = deque((item, 0) for item in work), len(work)
    failures: list[Exception] = []

    def done(worker: Worker, item: Work, tries: int, answer: Any) -> None:
        nonlocal left
        left -= 1
        try:
            on_outcome(ray.get(answer))
        except ray.exceptions.RayActorError as error:
            pool.lose(worker)
            if tries < RETRIES:
                left += 1
                todo.appendleft((item, tries + 1))
            else:
                failures.append(error)
        except (SourceError, StorageError) as error:
            failures.append(error)

    while left:
        pool.keep()
        for worker in pool.free(1)[: len(todo)]:
            item, tries = todo.popleft()
            then = functools.partial(done, worker, item, tries)
            pool.calls.put(worker, call(worker.actor, item), then)
        pool.calls.wait(1.0)
    return failures
