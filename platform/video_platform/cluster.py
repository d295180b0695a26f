"""Ray: start or join it, ship the code, run training workers, submit jobs.

    with start(config):
        result = run_workers(train_on_rank, recipe, config=config, on_progress=print)

`train_on_rank(payload, context)` runs in every worker with the process group open; what it reports
reaches the driver while it runs, and rank 0's return value is the result. Ray asks for a token on every
connection, sends no telemetry, and a Ray that is started here opens no dashboard and ends with the block.
"""

import contextlib
import dataclasses
import logging
import os
import secrets
import shlex
import shutil
import signal
import tempfile
import threading
import traceback
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from video_platform.cluster_config import ClusterConfig
from video_platform.errors import ClusterError, VdpError

P = TypeVar("P")
R = TypeVar("R")
ROOT = Path(__file__).parents[2]
EXCLUDES = (
    ".git", ".venv", ".env", "*.db", "*.log", ".*_cache", "__pycache__", ".hypothesis",
    "*.egg-info", "dist", "outputs", "mlruns", "*.mp4", "*.safetensors", "*.pem", "*.key",
)  # fmt: skip
"""What never leaves this machine with the code."""
log = logging.getLogger(__name__)


@contextlib.contextmanager
def start(config: ClusterConfig) -> Iterator[None]:
    """Have Ray inside the block: one of our own, or the one at `config.address`.

    Inside a submitted job it is the cluster that runs the job. An open connection is used as it is.

    Raises:
        ClusterError: nothing answers at the address, or it refuses us.
    """
    _prepare_environment()
    import ray

    if ray.is_initialized():
        yield
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    submitted = config.address is None and address is not None
    options: dict[str, Any] = {
        "log_to_driver": config.worker_logs,
        "logging_level": logging.WARNING,
    }
    if address is None:
        options |= {"num_cpus": config.num_cpus, "include_dashboard": False, "address": "local"}
    else:
        options |= {"address": address} | ({} if submitted else {"runtime_env": runtime_env()})
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"no Ray at {address or 'this machine'}: {_first_line(error)}; "
            "check cluster.address and RAY_AUTH_TOKEN_PATH, or leave the address out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def runtime_env() -> dict[str, Any]:
    """Return what a cluster elsewhere needs to run this code: the sources without the junk.

    Where the packages are installed from a wheel there is nothing to ship: the image holds it.
    """
    if not (ROOT / "pyproject.toml").is_file():
        return {}
    return {
        "working_dir": str(ROOT),
        "py_modules": [str(ROOT / "platform" / "video_platform")],
        "excludes": list(EXCLUDES),
    }


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
        raise _explain(failures[0], ray.get(mailbox.failure.remote()))
    result: R = ray.get(mailbox.result.remote())
    ray.kill(mailbox)
    return result


def submit_job(
    argv: Sequence[str],
    *,
    address: str,
    wait: bool = True,
    on_log: Callable[[str], None] = print,
) -> int:
    """Run a command of this project on a cluster.

    Args:
        argv: the command, for example `["python", "-m", "jobs.pretrain", "recipe.yaml"]`; it runs in
            a copy of the source tree.
        address: of the cluster's dashboard, `http://127.0.0.1:8265`.
        wait: follow the log until the job ends; otherwise return 0 at once.
        on_log: given pieces of the job's output, and first the name of the job.

    Returns:
        The job's exit code; 1 where it has none because it was stopped or never started.

    Raises:
        ClusterError: the address is unsafe, unreachable or refuses us.
    """
    _check_address(address)
    _prepare_environment()
    from ray.job_submission import JobStatus, JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        job = client.submit_job(entrypoint=shlex.join(argv), runtime_env=runtime_env())
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"cannot submit to {address}: {_first_line(error)}; is a head running there, and is "
            "RAY_AUTH_TOKEN_PATH the file that it was started with?"
        ) from error
    on_log(f"submitted {job} to {address}\n")
    if not wait:
        return 0
    _follow(client, job, on_log)
    info = client.get_job_info(job)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if not info.driver_exit_code:
        on_log(f"{job} {info.status}: {info.message}\n")
    return info.driver_exit_code or 1


def token_file() -> Path:
    """Return the file with the token for Ray, making a private one if there is none.

    `RAY_AUTH_TOKEN_PATH` names another. A head that is to be joined is started with the same file.
    """
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named:
        return Path(named)
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    path = state / "vdp" / "ray-token"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        # Written aside and linked, so that no process ever reads half a token.
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(partial, path)
        finally:
            partial.unlink()
    return path


class _Mailbox:
    """An actor between the workers and the driver: progress, the result, failures, the stop flag."""

    def __init__(self) -> None:
        import asyncio

        self._progress: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._result: Any = None
        self._failure: tuple[int, BaseException | None, str] | None = None

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

    async def fail(self, rank: int, error: BaseException | None, text: str) -> None:
        """Keep the first failure: what the other ranks say afterwards follows from it."""
        if self._failure is None:
            self._failure = (rank, error, text)

    async def failure(self) -> tuple[int, BaseException | None, str] | None:
        return self._failure

    async def stop(self) -> None:
        self._stop.set()

    async def until_stop(self) -> None:
        await self._stop.wait()


def _fit(
    fn: Any, payload: Any, config: ClusterConfig, mailbox: Any, failures: list[BaseException]
) -> None:
    """Run Ray Train to its end, in a thread of the driver."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.WARNING)
    private = tempfile.mkdtemp(prefix="vdp-ray-train-")
    try:
        TorchTrainer(
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
        ray.get(mailbox.fail.remote(rank, ours, traceback.format_exc()))
        raise
    if rank == 0:
        ray.get(mailbox.finish.remote(result))


def _explain(
    error: BaseException, failure: tuple[int, BaseException | None, str] | None
) -> BaseException:
    """Turn what Ray Train says into what went wrong."""
    if failure is None:
        return ClusterError(f"the training workers died: {_last_line(error)}")
    rank, ours, text = failure
    return ours or ClusterError(f"training worker {rank} failed:\n{text}")


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


def _check_address(address: str) -> None:
    """Refuse to send code, and a token in clear, where others may listen."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClusterError(
            f"{address!r} is no dashboard address; give one such as http://127.0.0.1:8265"
        )
    local = parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")
    token = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if parts.scheme == "http" and not local and not token:
        raise ClusterError(
            f"{address} is not on this machine and not encrypted; use https, a tunnel to "
            "127.0.0.1, or set RAY_AUTH_TOKEN_PATH to the token of that cluster"
        )


def _prepare_environment() -> None:
    """Set what Ray reads from the environment, here and in the processes that it starts."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    inside_job = "RAY_ADDRESS" in os.environ  # it already has what its cluster asks for
    if not inside_job and "RAY_AUTH_TOKEN" not in os.environ:
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file())
    if not inside_job:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if (ROOT / "pyproject.toml").is_file():
        paths = [str(ROOT), str(ROOT / "platform")]
        present = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join(
            paths + [path for path in present if path and path not in paths]
        )


def _follow(client: Any, job: str, on_log: Callable[[str], None]) -> None:
    """Pass on a job's output until it ends."""
    import asyncio

    async def follow() -> None:
        async for text in client.tail_job_logs(job):
            on_log(text)

    asyncio.run(follow())


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
