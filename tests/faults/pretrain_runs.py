"""Runs of `vdp pretrain` in processes of their own, what kills them, and what is left of them."""

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
WORKER = "ray::RayTrainWorker"
LONGEST_S = 900.0


def vdp(command: str, recipe: Path, *overrides: str, log: Path) -> subprocess.Popen:
    """Start a command of this project."""
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", command, str(recipe), *overrides],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"},
            stdout=file,
            stderr=file,
        )


def workers(driver: subprocess.Popen) -> list[psutil.Process]:
    """List the training workers of a driver."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(driver.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name().startswith(WORKER[:15]):
                    found.append(process)
    return sorted(found, key=lambda process: process.pid)


def kill_with_all(driver: subprocess.Popen) -> None:
    """Kill a driver with the Ray that it started."""
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=30)


def curve(project: Path, name: str = "loss") -> dict[int, set[str]]:
    """Return every value, as hex, that was logged of a metric for each step."""
    values: dict[int, set[str]] = {}
    with contextlib.suppress(sqlite3.OperationalError):
        uri = f"file:{project / 'mlflow.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=20)) as database:
            rows = database.execute("select step, value from metrics where key = ?", (name,))
            for step, value in rows.fetchall():
                values.setdefault(step, set()).add(float(value).hex())
    return values


def last(project: Path, prefix: str) -> dict[str, float]:
    """Return the newest values of all metrics whose names begin so."""
    uri = f"file:{project / 'mlflow.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=20)) as database:
        rows = database.execute(
            "select key, value from metrics where key like ? order by step, timestamp",
            (f"{prefix}%",),
        ).fetchall()
    return dict(rows)


def wait_for_step(driver: subprocess.Popen, project: Path, step: int, log: Path) -> None:
    """Wait until the loss of a step is there."""
    deadline_s = time.monotonic() + LONGEST_S
    while max(curve(project), default=0) < step:
        assert driver.poll() is None, f"it ended: {log.read_text()[-4000:]}"
        assert time.monotonic() < deadline_s, log.read_text()[-4000:]
        time.sleep(0.2)


def hash_of_model(project: Path) -> str:
    """Hash the weights of the transformer that a run made."""
    digest = hashlib.sha256()
    for path in sorted((project / "model" / "transformer").glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
