"""A job that is killed at any one of its steps leaves nothing that is half, and can be finished."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.faults.mayhem import check_exactly_once
from tests.faults.proxy import FaultyS3
from tests.faults.steps import CLIPS, job
from video_platform.latents import verify
from video_platform.latents.layer import read_layer
from video_platform.latents.summary import layer_folders
from video_platform.storage import open_store

ROOT = Path(__file__).parents[2]


def check(url, steps, *, finish_every):
    """Look at each cache, and finish some."""
    committed = []
    for step in range(steps):
        here = f"{url}/{step}"
        root = open_store(here)
        layers = [read_layer(root, folder) for folder in layer_folders(root)]
        committed.append(sum(len(layer.committed()) for layer in layers))
        if root.list():
            assert {finding.kind for finding in verify(here)} <= {"orphan"}
        if step % finish_every == 0:
            job(here)
            check_exactly_once(here, CLIPS)
    return committed


def run(url, how, **environment):
    command = [sys.executable, "-m", "tests.faults.steps", url, how]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    )


def test_a_job_may_die_at_any_step_on_a_disk(tmp_path):
    with run(str(tmp_path), "disk") as process:
        steps = int(process.communicate(timeout=200)[0])
    assert process.returncode == 0
    committed = check(str(tmp_path), steps, finish_every=1)
    assert committed == sorted(committed)
    assert sorted(set(committed)) == [0, 1, 2], "a text unit and one of latents"
    assert steps > 20


@pytest.mark.slow
def test_a_job_may_die_at_any_step_in_s3(s3_url, s3_server):
    with FaultyS3(s3_server) as proxy:
        written, killed = [0], [0]

        def die_after_writing(number):
            if proxy.seen[number][0] in ("PUT", "POST", "DELETE"):
                written[0] += 1
                if written[0] > killed[0]:
                    written[0] = 0
                    killed[0] += 1
                    for child in psutil.Process(process.pid).children():
                        child.kill()

        proxy.on_done = die_after_writing
        with run(s3_url, "s3", AWS_ENDPOINT_URL=proxy.url) as process:
            steps = int(process.communicate(timeout=200)[0])
        assert process.returncode == 0
    committed = check(s3_url, steps, finish_every=3)
    assert committed == sorted(committed)
    assert sorted(set(committed)) == [0, 1, 2]
    assert steps == killed[0] > 10
