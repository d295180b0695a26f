"""Ray: start or join it, ship the code, submit jobs, run training workers.

    with start(config):
        result = run_workers(train_on_rank, recipe, config=config, on_progress=print)

Ray asks for a token on every connection and sends no telemetry. A Ray that is started here opens no
dashboard and ends with the block.
"""

import contextlib
import logging
import os
import secrets
import shlex
import sys
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from video_platform.cluster_config import ClusterConfig
from video_platform.cluster_context import WorkerContext
from video_platform.cluster_workers import run_workers
from video_platform.errors import ClusterError

__all__ = [
    "WorkerContext",
    "interpreter",
    "run_workers",
    "runtime_env",
    "start",
    "submit_job",
    "token_file",
]

ROOT = Path(__file__).parents[2]
EXCLUDES = (
    ".git", ".venv", ".env", "*.db", "*.log", ".*_cache", "__pycache__", ".hypothesis",
    "*.egg-info", "dist", "outputs", "mlruns", "*.mp4", "*.safetensors", "*.pem", "*.key",
)  # fmt: skip
"""What never leaves this machine with the code."""


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


def submit_job(
    argv: Sequence[str],
    *,
    address: str,
    wait: bool = True,
    on_log: Callable[[str], None] = print,
) -> int:
    """Run a command of this project on a cluster.

    Args:
        argv: the command, for example `["python", "-m", "jobs.pretrain", "recipe.yaml"]`; it runs
            in a copy of the source tree.
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


def interpreter(address: str) -> str:
    """Return the Python to name in a job's command: this one where the head is on this machine."""
    return sys.executable if _is_local(address) else "python"


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


def _check_address(address: str) -> None:
    """Refuse to send code, and a token in clear, where others may listen."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClusterError(
            f"{address!r} is no dashboard address; give one such as http://127.0.0.1:8265"
        )
    token = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if parts.scheme == "http" and not _is_local(address) and not token:
        raise ClusterError(
            f"{address} is not on this machine and not encrypted; use https, a tunnel to "
            "127.0.0.1, or set RAY_AUTH_TOKEN_PATH to the token of that cluster"
        )


def _is_local(address: str) -> bool:
    host = urllib.parse.urlsplit(address).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _prepare_environment() -> None:
    """Set what Ray reads from the environment, here and in the processes that it starts."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    # Training workers stay where the driver is, so that relative paths mean the same to both.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
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
