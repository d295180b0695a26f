"""A real precompute job on Ray, its workers and itself killed at random, over a bad line to S3."""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.faults.proxy import FaultyS3, seeded
from tests.faults.test_exactly_once import LINE
from tests.jobs.precompute_world import CLIPS, make_world
from video_platform.latents import open_cache, verify
from video_platform.storage import open_store

ROOT = Path(__file__).parents[2]
REPEATED = 8
KILLS = {"ray::Decoder": 3, "ray::ClipEncoder": 3, "job": 1}


def start_job(url, world, environment):
    command = [sys.executable, "-m", "tests.faults.ray_job"]
    return subprocess.Popen(
        [*command, f"{url}/videos", f"{url}/cache", f"{world}/autoencoder"],
        cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def family(job):
    """List all processes of a job."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(job.pid).children(recursive=True)
    return []


def kill_worker(job, draw, left):
    """Kill a worker of a kind of which more are to die, and return the kind."""
    for process in sorted(family(job), key=lambda process: draw.random()):
        with contextlib.suppress(psutil.NoSuchProcess):
            kind = process.name().split("(")[0].split(".")[0]
            kind = next((name for name in left if kind.startswith(name)), None)
            if kind and left[kind]:
                process.kill()
                return kind
    return None


def kill_job(job):
    everybody = family(job)
    job.kill()
    job.wait()
    _, alive = psutil.wait_procs(everybody, timeout=30)
    for process in alive:
        process.kill()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_job_on_ray_stores_every_clip_once_whatever_is_killed(s3_url, s3_server, tmp_path):
    make_world(tmp_path)
    store = open_store(f"{s3_url}/videos")
    for number in range(REPEATED):
        for path in (tmp_path / "videos").glob("*.mp4"):
            store.put(f"{number}/{path.name}", path.read_bytes())
    draw, left, done = random.Random(5), Counter(KILLS), Counter()
    start_s = time.monotonic()
    with FaultyS3(s3_server, seeded(5, LINE)) as proxy:
        environment = {"AWS_ENDPOINT_URL": proxy.url, "AWS_MAX_ATTEMPTS": "8"}
        job = start_job(s3_url, tmp_path, environment)
        while True:
            time.sleep(draw.uniform(0.2, 1.5))
            if job.poll() == 0:
                break
            kind = kill_worker(job, draw, left)
            if kind is None and left["job"] and job.poll() is None and draw.random() < 0.1:
                kill_job(job)
                kind = "job"
            if kind:
                print(f"{time.monotonic() - start_s:.0f} s: {kind} killed", flush=True)
                left[kind] -= 1
                done[kind] += 1
            if job.poll() is not None:
                print(f"{time.monotonic() - start_s:.0f} s: started again after {job.returncode}")
                job = start_job(s3_url, tmp_path, environment)
    cache = open_cache(f"{s3_url}/cache")
    expected = [f"{n}/{i:02d}.mp4" for n in range(REPEATED) for i in range(CLIPS)]
    assert sorted(cache.ids) == sorted(expected)
    assert len([sample.mean for sample in cache]) == len(cache)
    findings = verify(f"{s3_url}/cache")
    assert {finding.kind for finding in findings} <= {"orphan"}
    assert done["ray::Decoder"] and done["ray::ClipEncoder"]
    print(f"{dict(done)} killed, {len(findings)} orphans, {len(cache)} clips, requests ")
    print(f"{proxy.counts()}, {time.monotonic() - start_s:.0f} s")
