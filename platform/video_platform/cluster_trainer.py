"""Ray Train as this platform uses it: it starts workers, opens their process group, restarts them.

Its checkpoints, reports and stored results are not used: what a run goes on from is its newest
checkpoint of ours, read by the workers themselves.
"""

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from video_platform.cluster_config import ClusterConfig
from video_platform.cluster_context import WorkerContext
from video_platform.cluster_mailbox import Entry, Failure
from video_platform.errors import HungError, VdpError
from video_platform.training.attempt import Attempt
from video_platform.training.watchdog import Watchdog

TERMINATED = threading.Event()
"""Set where this process, a worker, got SIGTERM; signals are the process's, not an object's."""

LOOK_EVERY_S = 0.5
"""Seconds between two looks whether all workers live; Ray's own 2 are lost at every death."""
ROOM_TIMEOUT_S = 10
"""How long room that Ray has promised may take, where fewer workers will do."""


def fit(bundle: Mapping[str, Any], config: ClusterConfig, failures: list[BaseException]) -> None:
    """Run Ray Train to its end, in a thread of the driver.

    Args:
        bundle: what each worker is given, see `run_on_worker`.
        config: how many workers, of what size.
        failures: takes what Ray Train raised.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    logging.getLogger("ray.train").setLevel(logging.WARNING)
    _set_limits(config)
    private = tempfile.mkdtemp(prefix="vdp-ray-train-")
    elastic = config.min_workers is not None
    try:
        _trainer_class()(
            run_on_worker,
            train_loop_config=dict(bundle),
            torch_config=_process_group(int(config.collective_timeout_s)),
            scaling_config=ScalingConfig(
                num_workers=(config.fewest_workers, config.workers) if elastic else config.workers,
                elastic_resize_monitor_interval_s=config.resize_every_s,
                use_gpu=config.gpus_per_worker > 0,
                resources_per_worker=resources(config),
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


def resources(config: ClusterConfig) -> dict[str, float]:
    """Return what one worker asks of its machine, as Ray names it."""
    asked = {"CPU": float(config.cpus_per_worker)}
    return asked | ({"GPU": config.gpus_per_worker} if config.gpus_per_worker else {})


def _set_limits(config: ClusterConfig) -> None:
    """Set what Ray Train reads from the environment of the driver.

    A worker that no longer answers is given up when a hang is. Where fewer workers will do, those
    of a machine that was lost just now are not waited for: Ray counts its room for a while yet.
    """
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(LOOK_EVERY_S))
    if _is_ours():  # nobody else drains its machine
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    if config.hang_timeout_s is not None:
        os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(config.hang_timeout_s)
    if config.min_workers is not None:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(ROOM_TIMEOUT_S))


def _trainer_class() -> Any:
    """Return Ray's trainer without helpers that are not needed; each is a process to start.

    Batches do not come through Ray, so nothing is divided among workers, again at every start. The
    cleaner frees the resources of a driver that died, and asks the dashboard who is alive; a Ray
    that was started here has none and ends with the driver: asking costs ten seconds a run.
    """
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import (
        PlacementGroupCleanerCallback,
    )

    unused = (DatasetsCallback, *([PlacementGroupCleanerCallback] if _is_ours() else []))

    class PromptTrainer(TorchTrainer):  # type: ignore[misc]  # Ray is untyped here
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [c for c in callbacks if not isinstance(c, unused)]

    return PromptTrainer


def _is_ours() -> bool:
    """Say whether this process started the Ray that it uses, for itself and without a dashboard."""
    import ray

    node = ray._private.worker._global_node
    return node is not None and not node.webui_url


def _process_group(timeout_s: int) -> Any:
    """Return Ray's way to open a process group, which here also listens for SIGTERM.

    It is closed with the process only: ranks whose partner is gone would wait for it.
    """
    from ray.train.torch import TorchConfig
    from ray.train.torch.config import _TorchBackend

    class Backend(_TorchBackend):  # type: ignore[misc]  # Ray is untyped here
        def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
            super().on_training_start(worker_group, backend_config)
            worker_group.execute(listen_for_sigterm)

        def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
            """Leave it to the end of the process."""

    class Config(TorchConfig):  # type: ignore[misc]
        @property
        def backend_cls(self) -> Any:
            return Backend

    return Config(timeout_s=timeout_s)


def listen_for_sigterm() -> None:
    """Note SIGTERM instead of dying of it.

    Called in the main thread of a worker, which trains in another.
    """

    def note(number: int, frame: FrameType | None) -> None:
        TERMINATED.set()

    signal.signal(signal.SIGTERM, note)


def run_on_worker(bundle: Mapping[str, Any]) -> None:
    """Call the function on one worker; pass on its result or its failure.

    Args:
        bundle: `fn`, its `payload`, the `config` of the cluster, the `mailbox`, and since when the
            driver is at it, `began_s`.
    """
    import ray
    import torch
    from ray import train

    config: ClusterConfig = bundle["config"]
    mailbox = bundle["mailbox"]
    if config.gpus_per_worker == 0:
        torch.set_num_threads(max(1, int(config.cpus_per_worker)))
    rank = train.get_context().get_world_rank()
    meeting = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    entry: Entry = ray.get(mailbox.begin.remote(meeting))
    if entry.ended:
        return

    def on_hang(line: str, stacks: str) -> None:
        error = HungError(f"training worker {rank} on {socket.gethostname()}: {line}")
        ray.get(mailbox.fail.remote(Failure(rank, error, stacks)))

    try:
        with Watchdog(config.hang_timeout_s, on_hang=on_hang) as dog:
            context = _context(bundle, entry, dog.alive)
            result = bundle["fn"](bundle["payload"], context)
    except BaseException as error:  # a process edge: noted for the driver, then raised again
        ours = error if isinstance(error, VdpError) else None
        ray.get(mailbox.fail.remote(Failure(rank, ours, traceback.format_exc())))
        raise
    if rank == 0:
        ray.get(mailbox.finish.remote(result))


def _context(
    bundle: Mapping[str, Any], entry: Entry, alive: Callable[[str], None]
) -> WorkerContext:
    """Tell a worker of its place."""
    from ray import train

    mailbox = bundle["mailbox"]
    stopping = mailbox.until_stop.remote().future()

    def stop_reason() -> str | None:
        if TERMINATED.is_set():
            return "SIGTERM"
        return str(stopping.result()) if stopping.done() else None

    return WorkerContext(
        rank=train.get_context().get_world_rank(),
        world=train.get_context().get_world_size(),
        device=str(train.torch.get_device()),
        report=lambda progress: mailbox.report.remote(dict(progress)),
        stop_reason=stop_reason,
        attempt=Attempt(began_s=bundle["began_s"], last_seen_s=entry.last_seen_s, alive=alive),
    )
