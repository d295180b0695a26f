"""Look through the videos of a source on Ray, each once for all runs.

    shelf = scan_source(root, records, scanning, pool=cache_config, on_progress=print)
    for record, finding in shelf.walk(records):
        ...

A few videos at a time go to an actor, which writes what it found; the driver holds nothing of it. A
run that is killed loses only what was under way.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from video_platform.clips.scans import Finding, Refusal, Scanning, Shelf, media_hash
from video_platform.datasets.record import Record
from video_platform.errors import CacheError, ClusterError, MediaError, SourceError, StorageError
from video_platform.latents.config import CacheConfig
from video_platform.latents.fetching import Fetcher
from video_platform.storage import Store
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import reject

FILES = 128
"""Most videos that are scanned, and kept, as one."""
BYTES = 512 << 20
"""Most bytes of them, but for a single one."""
ROUNDS = 8
"""Pieces of work for each actor at least, so that all are at work to the end."""
RETRIES = 3
"""How often a piece of work is repeated whose actor died."""
TRIES = 2
"""How often a video must crash its decoder, or take too long, to be refused for it."""

OnScanned = Callable[[int, int], None]
"""Is told how many videos are scanned, and how many there are."""


class Scanner:
    """Looks through one video after the other, in a child process that may crash."""

    def __init__(self, scanning: Scanning) -> None:
        self._scanning = scanning
        self._isolated = IsolatedDecoder(scanning.limits)
        self._fetcher = Fetcher()

    def look(self, record: Record) -> Finding:
        """Return what a video holds, or why it is refused.

        Raises:
            SourceError: it is gone or has changed; another run may do better.
            StorageError: it cannot be read now.
        """
        refusal = None
        for _ in range(TRIES):
            try:
                return self._try(record)
            except MediaError as error:
                bounds = self._scanning.bounds
                refusal = Refusal(reason=error.reason, error=error.message, limits=bounds)
                if error.reason not in ("crash", "timeout"):
                    break
        assert refusal is not None, "it was tried"  # noqa: S101
        return refusal

    def keep(self, root: Store, records: Sequence[Record]) -> int:
        """Look through some videos, keep what was found, and return how many there were.

        Raises:
            SourceError: of the first that is gone or has changed; the others are kept.
            StorageError: of the first that cannot be read now.
        """
        found: dict[str, Finding] = {}
        failure: SourceError | StorageError | None = None
        for record in records:
            try:
                found[media_hash(record)] = self.look(record)
            except (SourceError, StorageError) as error:
                failure = failure or error
        if found:
            Shelf(root, self._scanning).put(found)
        if failure is not None:
            raise failure
        return len(records)

    def ready(self) -> None:
        """Answer once the actor runs."""

    def close(self) -> None:
        """End the child process."""
        self._isolated.close()

    def _try(self, record: Record) -> Finding:
        if record.size_bytes > self._scanning.limits.max_bytes:
            raise reject("too_large", f"{record.size_bytes} bytes")
        return self._isolated.scan(self._fetcher.media(record), self._scanning.look)


def scan_source(
    root: Store,
    records: Sequence[Record],
    scanning: Scanning,
    *,
    pool: CacheConfig,
    on_progress: OnScanned,
) -> Shelf:
    """Look through every video that no run has looked through, on the Ray that is running.

    Args:
        root: the cache that keeps what is found.
        records: the files of a source.
        scanning: how they are looked through.
        pool: how many decoders there are, and what each takes of the cluster.
        on_progress: is told at the start and as it goes on.

    Raises:
        CacheError: some videos could not be fetched now; what was found in the others is kept.
    """
    shelf = Shelf(root, scanning)
    shelf.refresh()
    missing = shelf.missing(records)
    done = len(records) - len(missing)
    on_progress(done, len(records))
    if not missing:
        return shelf
    failures: list[Exception] = []
    for answer in _scan_all(root, missing, scanning, pool):
        if isinstance(answer, int):
            done += answer
            on_progress(done, len(records))
        else:
            failures.append(answer)
    if failures:
        reason = " ".join(str(getattr(failures[0], "cause", failures[0])).split())[:500]
        raise CacheError(
            f"{len(failures)} pieces of the scan of the source could not be done, the first "
            f"because of: {reason}; what was found is kept, run it again for the rest"
        ) from failures[0]
    shelf.refresh()
    if lost := shelf.missing(records):
        raise CacheError(
            f"{len(lost)} scanned videos are unknown, such as {lost[0].id!r}: the workers run "
            "other code than this process; bring them to the same version"
        )
    return shelf


def _scan_all(
    root: Store, records: Sequence[Record], scanning: Scanning, pool: CacheConfig
) -> Iterator[int | Exception]:
    """Have actors scan videos, and yield how many were scanned or what went wrong."""
    import ray
    from ray.util import ActorPool

    parts = list(_parts(records, len(records) // (ROUNDS * (pool.max_decoders or pool.decoders))))
    with _scanners(scanning, pool, most=len(parts)) as actors:
        busy = ActorPool(actors)
        for part in parts:
            busy.submit(lambda actor, some: actor.keep.remote(root, some), part)
        while busy.has_next():
            try:
                yield busy.get_next_unordered()
            except (ray.exceptions.RayActorError, SourceError, StorageError) as error:
                yield error


@contextlib.contextmanager
def _scanners(scanning: Scanning, pool: CacheConfig, *, most: int) -> Iterator[list[Any]]:
    """Have as many actors inside the block as there is room for, `pool.decoders` at least.

    Raises:
        ClusterError: there is no room for that many.
    """
    import ray

    remote = ray.remote(Scanner).options(
        num_cpus=pool.cpus_per_decoder, max_restarts=-1, max_task_retries=RETRIES
    )
    actors = [remote.remote(scanning) for _ in range(min(pool.max_decoders or pool.decoders, most))]
    try:
        called = {actor.ready.remote(): actor for actor in actors}
        fewest = min(pool.decoders, most)
        ready, _ = ray.wait(list(called), num_returns=fewest, timeout=pool.start_timeout_s)
        if len(ready) < fewest:
            cpus = ray.cluster_resources().get("CPU", 0)
            raise ClusterError(
                f"{len(ready)} of {fewest} decoders started within cache.start_timeout_s = "
                f"{pool.start_timeout_s:g}; the cluster has {cpus:g} CPUs. Lower cache.decoders or "
                "cache.cpus_per_decoder, or start a larger cluster"
            )
        yield [called[answer] for answer in ready]
    finally:
        for actor in actors:
            ray.kill(actor)


def _parts(records: Sequence[Record], files: int) -> Iterator[list[Record]]:
    """Cut a source into pieces of work of about so many files."""
    most = max(1, min(files, FILES))
    part: list[Record] = []
    size_bytes = 0
    for record in records:
        if part and (len(part) == most or size_bytes + record.size_bytes > BYTES):
            yield part
            part, size_bytes = [], 0
        part.append(record)
        size_bytes += record.size_bytes
    if part:
        yield part
