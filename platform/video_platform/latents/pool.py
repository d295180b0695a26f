"""Ray actors in pools, and the loop that hands them units until none is left.

Ray starts a dead actor again and repeats its call, so a unit whose worker was lost is simply done
again: nothing of it was committed.
"""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from video_platform.errors import CacheError, ClusterError, SourceError, StorageError
from video_platform.latents.work import Outcome, Work

RETRIES = 3
"""How often a call is repeated whose actor died."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seat:
    """What one actor of a pool takes of the cluster."""

    cpus: float
    """CPUs."""
    gpus: float = 0.0
    """GPUs."""


@contextlib.contextmanager
def actors(kind: type, count: int, seat: Seat, *arguments: Any) -> Iterator[list[Any]]:
    """Start `count` actors of a class inside the block; their handles may not be ready yet."""
    import ray

    remote = ray.remote(kind).options(
        num_cpus=seat.cpus, num_gpus=seat.gpus, max_restarts=-1, max_task_retries=RETRIES
    )
    pool = [remote.remote(*arguments) for _ in range(count)]
    try:
        yield pool
    finally:
        for actor in pool:
            ray.kill(actor)


def wait_until_ready(pools: Sequence[Sequence[Any]], *, timeout_s: float, needs: str) -> list[Any]:
    """Wait until every actor answers, and return the answers of the last pool.

    Raises:
        ClusterError: the cluster has no room for them within `timeout_s`.
    """
    import ray

    try:
        answers = [
            ray.get([actor.ready.remote() for actor in pool], timeout=timeout_s) for pool in pools
        ]
    except ray.exceptions.GetTimeoutError:
        total = ray.cluster_resources()
        raise ClusterError(
            f"the actors did not start within cache.start_timeout_s = {timeout_s:g}: they need "
            f"{needs}; the cluster has {total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} "
            "GPUs. Lower cache.decoders, cache.encoders or their CPUs, or start a larger cluster"
        ) from None
    return list(answers[-1])


def run_units(
    pool: Sequence[Any],
    work: Sequence[Work],
    call: Callable[[Any, Work], Any],
    on_outcome: Callable[[Outcome], None],
) -> None:
    """Give every unit to an idle actor until all are done.

    Args:
        pool: the actors.
        work: the units.
        call: starts the work on an actor and returns the reference of its outcome.
        on_outcome: is told of each unit that is done.

    Raises:
        CacheError: some units could not be done now; the others are.
    """
    import ray

    todo = deque(work)
    idle = list(pool)
    running: dict[Any, Any] = {}
    failures: list[Exception] = []
    while todo or running:
        while todo and idle:
            actor = idle.pop()
            running[call(actor, todo.popleft())] = actor
        (done, *_), _ = ray.wait(list(running), num_returns=1)
        idle.append(running.pop(done))
        try:
            on_outcome(ray.get(done))
        except (ray.exceptions.RayActorError, SourceError, StorageError) as error:
            failures.append(error)
    if failures:
        reason = " ".join(str(getattr(failures[0], "cause", failures[0])).split())[:500]
        raise CacheError(
            f"{len(failures)} of {len(work)} units could not be finished, the first because of: "
            f"{reason}; the rest is committed, run precompute again for these"
        ) from failures[0]
