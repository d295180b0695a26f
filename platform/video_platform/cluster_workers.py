"""Training workers on Ray: one process a rank, a process group between them, news for the driver.

A function `fn(payload, context)` runs in every worker with the process group open. What rank 0
reports reaches the driver while it runs, rank 0's return value is the result, and the error that
the driver sees is the one that a worker raised. Workers that die or hang are started again, all
together; an error that another attempt could only meet again ends the run at once.
"""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, TypeVar

from video_platform.cluster_config import ClusterConfig
from video_platform.cluster_context import WorkerContext
from video_platform.cluster_mailbox import Failure, Notice, open_mailbox
from video_platform.cluster_trainer import fit, resources
from video_platform.errors import ClusterError, WorkerDiedError

P = TypeVar("P")
R = TypeVar("R")
log = logging.getLogger(__name__)


def run_workers(
    fn: Callable[[P, WorkerContext], R],
    payload: P,
    *,
    config: ClusterConfig,
    on_progress: Callable[[Mapping[str, Any]], None] = lambda progress: None,
    watch: Callable[[], None] = lambda: None,
) -> R:
    """Run a function on every training worker and return what rank 0 returned.

    Ctrl-C or SIGTERM asks the workers to stop at the next step boundary; a second one ends them.

    Args:
        fn: importable by the workers; gets the payload and its `WorkerContext`.
        payload: small and picklable.
        config: how many workers, of what size.
        on_progress: called in this process with what rank 0 reports.
        watch: called several times a second while the workers run; what it raises ends the run.

    Raises:
        VdpError: the first one that a worker raised.
        ClusterError: a worker died, hung or failed otherwise once more than `config.max_failures`,
            or there is no room for the workers.
    """
    import ray

    _check_room(config)
    mailbox = open_mailbox()
    failures: list[BaseException] = []
    bundle = {
        "fn": fn, "payload": payload, "config": config, "mailbox": mailbox, "began_s": time.time()
    }  # fmt: skip
    thread = threading.Thread(
        target=fit, args=(bundle, config, failures), name="ray-train", daemon=True
    )
    with _stop_on_signals(mailbox):
        thread.start()
        while thread.is_alive():
            watch()
            _pass_on(ray.get(mailbox.drain.remote(0.2)), on_progress)
        thread.join()
    _pass_on(ray.get(mailbox.drain.remote(0.0)), on_progress)
    final: Failure | None = ray.get(mailbox.final.remote())
    if final is not None:
        raise explain(None, [final])
    if failures:
        raise explain(failures[0], ray.get(mailbox.failures.remote()))
    result: R = ray.get(mailbox.result.remote())
    return result


def _pass_on(
    news: Sequence[Mapping[str, Any] | Notice], on_progress: Callable[[Mapping[str, Any]], None]
) -> None:
    """Log what is for the log, and pass on the rest."""
    for item in news:
        if isinstance(item, Notice):
            log.warning("%s", item.text)
        else:
            on_progress(item)


def explain(error: BaseException | None, failures: Sequence[Failure]) -> BaseException:
    """Turn what Ray Train says into what went wrong.

    The first error of ours is the cause. A rank that Ray counts as failed and that told nothing has
    died, which explains what the others say.

    Args:
        error: what Ray Train raised, if it did.
        failures: what ranks told, the first one first.
    """
    from ray.exceptions import RayActorError

    ours = next((failure for failure in failures if failure.error is not None), None)
    if ours is not None and ours.error is not None:
        log.error("worker %d: %s", ours.rank, ours.text)
        return ours.error
    silent = getattr(error, "worker_failures", {}).keys() - {f.rank for f in failures}
    if silent or isinstance(getattr(error, "controller_failure", None), RayActorError):
        return WorkerDiedError(
            "a training worker died: killed, out of memory or crashed; "
            "cluster.max_failures lets a run go on from its newest checkpoint"
        )
    if failures:
        return ClusterError(f"training worker {failures[0].rank} failed:\n{failures[0].text}")
    return ClusterError(f"training failed: {_last_line(error)}")


@contextlib.contextmanager
def _stop_on_signals(mailbox: Any) -> Iterator[None]:
    """Ask the workers to stop on the first Ctrl-C or SIGTERM; interrupt on the second."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        log.warning("stopping at the next step; once more to end at once")
        mailbox.stop.remote(signal.Signals(number).name)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_room(config: ClusterConfig) -> None:
    """Refuse what would wait for ever."""
    import ray

    there = ray.cluster_resources()
    for name, each in resources(config).items():
        if each * config.fewest_workers > there.get(name, 0):
            knob = f"{name.lower()}s_per_worker"
            raise ClusterError(
                f"{config.fewest_workers} workers x {each:g} {name} do not fit into a cluster of "
                f"{there.get(name, 0):g} {name}; lower cluster.workers or cluster.{knob}"
            )


def _last_line(error: BaseException | None) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
