"""Two machines that share nothing but an S3 server fill one cache, and one of them is lost."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.faults.namespaces import NoNamespacesError, machines
from tests.jobs.precompute_world import CLIPS, LIMITS, POLICY, make_world
from video_models.formats import open_autoencoder
from video_platform import cluster
from video_platform.latents import open_cache, verify
from video_platform.storage import open_store
from video_platform.video.decode import decode

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
REPEATED = 15
"""Each clip of the world is in the source so often, under other names."""
PORT = 6379
ACTORS = ("ray::Decoder", "ray::ClipEncoder")


@pytest.fixture
def nodes(tmp_path, s3):
    """Two machines with scratch folders of their own, and an S3 server that both reach.

    The second does not see the folder in which the first has its autoencoder.
    """
    from moto.server import ThreadedMotoServer

    scratch = Path(tempfile.mkdtemp(prefix="vdp-", dir="/tmp"))  # a socket's path must be short
    (tmp_path / "world").mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, scratch)
        try:
            here, both = stack.enter_context(machines([[scratch], [scratch, tmp_path / "world"]]))
        except NoNamespacesError as error:
            pytest.skip(f"no network namespaces here: {error}")
        server = ThreadedMotoServer(ip_address=here, port=0, verbose=False)
        server.start()
        stack.callback(server.stop)
        endpoint = f"http://{here}:{server.get_host_and_port()[1]}"
        yield both, scratch, {"AWS_ENDPOINT_URL": endpoint}


@pytest.mark.slow
def test_a_job_outlives_the_loss_of_a_machine_and_every_clip_is_stored_once(
    nodes, s3_url, tmp_path
):
    (first, second), scratch, environment = nodes
    world = tmp_path / "world"
    make_world(world)
    store_videos(s3_url, world)
    hurry = {f"RAY_health_check_{knob}": "1000" for knob in ("period_ms", "timeout_ms")}
    environment |= {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(cluster.token_file()),
        "RAY_health_check_failure_threshold": "5",
        **hurry,
    }
    ray = [RAY, "start", "--block", "--num-cpus=1", "--object-store-memory=200000000"]
    head = [*ray, "--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={scratch}"]
    one = first.start([*head, f"--node-ip-address={first.address}"], environment, tmp_path / "1")
    wait_for(tmp_path / "1", "Ray runtime started")
    join = [*ray, f"--address={first.address}:{PORT}", f"--node-ip-address={second.address}"]
    second.start(join, environment, tmp_path / "2")
    wait_for(tmp_path / "2", "Ray runtime started")
    job = subprocess.Popen(
        ["nsenter", "-t", str(one.pid), "-n", "-m", sys.executable, "-m", "tests.faults.ray_job",
         f"{s3_url}/videos", f"{s3_url}/cache", f"{world}/autoencoder", f"{first.address}:{PORT}"],
        cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    worked = follow(job, second)
    assert job.wait(300) == 0, (tmp_path / "1").read_text()[-3000:]
    assert all(worked[kind] for kind in ACTORS), f"on the lost machine there were {worked}"
    check(f"{s3_url}/cache", world)


def store_videos(url, world):
    store = open_store(f"{url}/videos")
    for number in range(REPEATED):
        for path in (world / "videos").glob("*.mp4"):
            store.put(f"{number}/{path.name}", path.read_bytes())


def wait_for(log, words):
    deadline_s = time.monotonic() + 120
    while words not in log.read_text():
        assert time.monotonic() < deadline_s, log.read_text()[-3000:]
        time.sleep(0.2)


def follow(job, second):
    """Read what the job says; when half is done, note what runs on the machine and cut it off."""
    worked = Counter()
    for line in job.stdout:
        print(f"{time.monotonic():.1f}", line, end="")
        layer, *counts = line.split()
        if layer == "latent" and not worked and 2 * int(counts[0]) >= int(counts[1]):
            for command in second.runs():
                worked.update(kind for kind in ACTORS if command.startswith(kind))
            worked["all"] += 1
            second.pull_the_plug()
    return worked


def check(url, world):
    cache = open_cache(url)
    expected = [f"{n}/{i:02d}.mp4" for n in range(REPEATED) for i in range(CLIPS)]
    assert sorted(cache.ids) == sorted(expected)
    model = open_autoencoder(world / "autoencoder")
    for sample in cache:
        clip = decode(world / "videos" / sample.id.split("/")[1], policy=POLICY, limits=LIMITS)
        video = torch.from_numpy(clip.frames)[None].movedim(-1, 1).float() / 127.5 - 1
        with torch.inference_mode():
            mean = model.encode(video).mean[0]
        torch.testing.assert_close(sample.mean, mean, atol=1e-5, rtol=1e-4)
    assert {finding.kind for finding in verify(url)} <= {"orphan"}
