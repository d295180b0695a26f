"""Training workers on Ray: one process a rank, a process group between them, news for the driver.

A function `fn(payload, context)` runs in every worker with the process group open. What rank 0
reports reaches the driver while it runs, rank 0's return value is the result, and the error that
the driver sees is the one that a worker raised.
"""

import contextlib
import dataclasses
import logging
import shutil
import signal
import tempfile
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, TypeVar

from video_platform.cluster_config import ClusterConfig
from video_platform.errors import ClusterError, VdpError

P = TypeVar("P")
R = TypeVar("R")
log = logging.getLogger(__name__)


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
    should_stop: Callable[[], bool]
    """Whether the driver asked the run to end at the next step boundary."""


def run_workers(
    fn: Callable[[P, WorkerContext], R],
    payload: P,
    *,
    config: ClusterConfig,
    on_progress: Callable[[Mapping[str, Any]], None] = lambda progress: None,
) -> R:
    """Run a function on every training worker and return what rank 0 returned.

    Ctrl-C or SIGTERM asks the workers to stop at the next step boundary; a second one ends them.

    Args:
        fn: importable by the workers; gets the payload and its `WorkerContext`.
        payload: small and picklable.
        config: how many workers, of what size.
        on_progress: called in this process with what rank 0 reports.

    Raises:
        VdpError: the first one that a worker raised.
        ClusterError: a worker died or failed otherwise, or there is no room for the workers.
    """
    import ray

    _check_room(config)
    mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
    failures: list[BaseException] = []
    thread = threading.Thread(
        target=_fit, args=(fn, payload, config, mailbox, failures), name="ray-train", daemon=True
    )
    with _stop_on_signals(mailbox):
        thread.start()
        while thread.is_alive():
            for progress in ray.get(mailbox.drain.remote(0.2)):
                on_progress(progress)
        thread.join()
    for progress in ray.get(mailbox.drain.remote(0.0)):
        on_progress(progress)
    if failures:
        raise _explain(failures[0], ray.get(mailbox.failures.remote()))
    result: R = ray.get(mailbox.result.remote())
    return result


@dataclasses.dataclass(frozen=True)
class _Failure:
    """What one rank raised."""

    rank: int
    error: VdpError | None
    """Where it is one of ours."""
    text: str
    """Its traceback."""


class _Mailbox:
    """An actor between workers and driver: progress, the result, failures, the stop flag."""

    def __init__(self) -> None:
        import asyncio

        self._progress: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._result: Any = None
        self._failures: list[_Failure] = []

    async def begin(self) -> None:
        """Forget the failures of an earlier attempt."""
        self._failures.clear()

    async def report(self, progress: Mapping[str, Any]) -> None:
        self._progress.put_nowait(progress)

    async def drain(self, wait_s: float) -> list[Mapping[str, Any]]:
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
        self._result = result

    async def result(self) -> Any:
        return self._result

    async def fail(self, failure: _Failure) -> None:
        self._failures.append(failure)

    async def failures(self) -> list[_Failure]:
        """Return what ranks raised, the first one first; the others' often follows from it."""
        return self._failures

    async def stop(self) -> None:
        self._stop.set()

    async def until_stop(self) -> None:
        await self._stop.wait()


def _fit(
    fn: Any, payload: Any, config: ClusterConfig, mailbox: Any, failures: list[BaseException]
) -> None:
    """Run Ray Train to its end, in a thread of the driver."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    logging.getLogger("ray.train").setLevel(logging.WARNING)
    private = tempfile.mkdtemp(prefix="vdp-ray-train-")
    try:
        _trainer_class()(
            _run_on_worker,
            train_loop_config={"fn": fn, "payload": payload, "config": config, "mailbox": mailbox},
            torch_config=TorchConfig(timeout_s=int(config.collective_timeout_s)),
            scaling_config=ScalingConfig(
                num_workers=config.workers,
                use_gpu=config.gpus_per_worker > 0,
                resources_per_worker=_resources(config),
            ),
            # Ray silently resumes a run whose name was used before: no name is used twice.
            run_config=RunConfig(
                name=f"run-{uuid.uuid4().hex}",
                storage_path=config.storage_path or private,
                failure_config=FailureConfig(max_failures=config.max_failures),
            ),
        ).fit()
    except BaseException as error:  # a thread's edge: raised again by run_workers
        failures.append(error)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _trainer_class() -> Any:
    """Return Ray's trainer, without its cleaner where there is no dashboard.

    The cleaner frees the resources of a driver that died, and asks the dashboard who is alive. A
    Ray that was started here has none and ends with the driver: asking costs ten seconds a run.
    """
    import ray
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks.placement_group_callback import (
        PlacementGroupCleanerCallback,
    )

    class PromptTrainer(TorchTrainer):  # type: ignore[misc]  # Ray is untyped here
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [c for c in callbacks if not isinstance(c, PlacementGroupCleanerCallback)]

    node = ray._private.worker._global_node
    return PromptTrainer if node is not None and not node.webui_url else TorchTrainer


def _run_on_worker(bundle: Mapping[str, Any]) -> None:
    """Call the function on one worker; pass on its result or its failure."""
    import ray
    import torch
    from ray import train

    config: ClusterConfig = bundle["config"]
    mailbox = bundle["mailbox"]
    if config.gpus_per_worker == 0:
        torch.set_num_threads(max(1, int(config.cpus_per_worker)))
    rank = train.get_context().get_world_rank()
    if rank == 0:
        ray.get(mailbox.begin.remote())
    stopping = mailbox.until_stop.remote().future()
    context = WorkerContext(
        rank=rank,
        world=train.get_context().get_world_size(),
        device=str(train.torch.get_device()),
        report=lambda progress: mailbox.report.remote(dict(progress)),
        should_stop=stopping.done,
    )
    try:
        result = bundle["fn"](bundle["payload"], context)
    except BaseException as error:  # a process edge: noted for the driver, then raised again
        ours = error if isinstance(error, VdpError) else None
        ray.get(mailbox.fail.remote(_Failure(rank, ours, traceback.format_exc())))
        raise
    if rank == 0:
        ray.get(mailbox.finish.remote(result))


def _explain(error: BaseException, failures: Sequence[_Failure]) -> BaseException:
    """Turn what Ray Train says into what went wrong.

    The first error of ours is the cause. A rank that Ray counts as failed and that told nothing has
    died, which explains what the others say.
    """
    from ray.exceptions import RayActorError

    ours = next((failure.error for failure in failures if failure.error is not None), None)
    if ours is not None:
        return ours
    silent = getattr(error, "worker_failures", {}).keys() - {f.rank for f in failures}
    if silent or isinstance(getattr(error, "controller_failure", None), RayActorError):
        return ClusterError(
            "a training worker died: killed, out of memory or crashed; "
            "cluster.max_failures lets a run go on from its newest checkpoint"
        )
    if not failures:
        return ClusterError(f"training failed: {_last_line(error)}")
    return ClusterError(f"training worker {failures[0].rank} failed:\n{failures[0].text}")


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
        mailbox.stop.remote()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _resources(config: ClusterConfig) -> dict[str, float]:
    resources = {"CPU": float(config.cpus_per_worker)}
    return resources | ({"GPU": config.gpus_per_worker} if config.gpus_per_worker else {})


def _check_room(config: ClusterConfig) -> None:
    """Refuse what would wait for ever."""
    import ray

    there = ray.cluster_resources()
    for name, each in _resources(config).items():
        if each * config.workers > there.get(name, 0):
            knob = f"{name.lower()}s_per_worker"
            raise ClusterError(
                f"{config.workers} workers x {each:g} {name} do not fit into a cluster of "
                f"{there.get(name, 0):g} {name}; lower cluster.workers or cluster.{knob}"
            )


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
