"""Two machines that share nothing but an S3 server train one model, and one of them is lost.

    pytest -s -m slow tests/faults/test_two_nodes_training.py

Cache and checkpoints are in S3; the autoencoder travels to the workers through Ray, metrics and
pictures travel back to the driver, and so does the model.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.model_folder import ModelFolder
from tests.faults.pretrain_runs import curve, last
from tests.faults.test_two_nodes import PORT, RAY, nodes, wait_for  # noqa: F401
from tests.jobs.precompute_world import config_for, make_world, run_precompute
from video_platform import cluster
from video_platform.cluster_config import ClusterConfig

ROOT = Path(__file__).parents[2]
STEPS = 40
RECIPE = """
name: world
pixels: {frames: 5, height: 16, width: 16, fps: 8.0}
limits: {timeout_s: 60}
text: {kind: words, dim: 8, max_tokens: 4}
model:
  transformer:
    latent_channels: 4
    text_dim: 8
    num_heads: 2
    head_dim: 12
    ffn_dim: 32
    num_layers: 2
    patch_size: [1, 1, 1]
  sampling: {steps: 2}
pretrain:
  held_out: 0.2
  sample_prompts: [noise 1]
  training:
    steps: 40
    batch_size: 4
    micro_batch_size: 1
    zero_stage: 2
    checkpoint_every: 5
    validate_every: 10
    sample_every: 20
    log_every: 1
cluster:
  workers: 2
  min_workers: 1
  max_failures: 5
  collective_timeout_s: 60
  hang_timeout_s: 120
"""


@pytest.fixture
def there(nodes, s3_url, tmp_path):  # noqa: F811
    """A filled cache in S3, a recipe, and what starts a run of it on the first of two machines."""
    (first, second), scratch, environment = nodes
    world = tmp_path / "world"
    make_world(world)
    with cluster.start(ClusterConfig(num_cpus=2)):
        run_precompute(world, config_for(f"{s3_url}/cache"), lambda now: None)
    environment |= cluster_environment()
    project = world / "project"
    recipe, log = tmp_path / "recipe.yaml", tmp_path / "log"
    recipe.write_text(RECIPE)
    places = {
        "project": project, "cache.url": f"{s3_url}/cache", "checkpoints": f"{s3_url}/checkpoints",
        "autoencoder.path": world / "autoencoder", "cluster.address": f"{first.address}:{PORT}",
    }  # fmt: skip

    def start(*cpus, **overrides):
        head = start_cluster((first, second), cpus, scratch, environment, tmp_path)
        words = [f"{key}={value}" for key, value in (places | overrides).items()]
        command = [sys.executable, "-m", "jobs.cli", "pretrain", str(recipe), *words]
        with log.open("w") as file:
            return subprocess.Popen(
                ["nsenter", "-t", str(head.pid), "-n", "-m", *command],
                cwd=ROOT, env={**os.environ, **environment}, stdout=file, stderr=file,
            )  # fmt: skip

    yield start, second, project, log


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_machines_train_together_and_one_goes_on_alone(there):
    start, second, project, log = there
    driver = start(1, 1)
    wait_for_step(driver, project, 12, log)
    assert any(line.startswith("ray::RayTrainWorker") for line in second.runs())
    second.pull_the_plug()
    assert driver.wait(600) == 0, log.read_text()[-6000:]
    check(project)
    compared = curve(project, "ranks/stragglers")
    assert 1 in compared and STEPS not in compared, "two ranks at first, one at the end"
    print({name: f"{share:.1%}" for name, share in last(project, "goodput/").items()})


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_another_machine_trains_comes_home(there):
    start, _, project, log = there
    driver = start(0, 2)
    assert driver.wait(600) == 0, log.read_text()[-6000:]
    check(project)


def check(project):
    """Look for all that a run leaves, on the machine that its driver ran on."""
    losses = curve(project)
    assert sorted(losses) == list(range(1, STEPS + 1))
    assert len(list((project / "artifacts").rglob(f"step-{STEPS:06d}*.png"))) >= 1
    transformer = ModelFolder.open(project / "model").transformer()
    assert all(parameter.isfinite().all() for parameter in transformer.parameters())


def cluster_environment() -> dict[str, str]:
    return {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(cluster.token_file()),
        "RAY_health_check_failure_threshold": "5",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "1000",
        "GLOO_SOCKET_IFNAME": "eth0",
    }


def start_cluster(machines, cpus, scratch, environment, logs):
    """Start a head on the first machine and a node on the second; return the head's process."""
    first, second = machines
    ray = [RAY, "start", "--block", "--object-store-memory=200000000"]
    head = [*ray, f"--num-cpus={cpus[0]}", "--head", f"--port={PORT}", "--include-dashboard=false",
            f"--temp-dir={scratch}"]  # fmt: skip
    one = first.start([*head, f"--node-ip-address={first.address}"], environment, logs / "1")
    wait_for(logs / "1", "Ray runtime started")
    ray.append(f"--num-cpus={cpus[1]}")
    join = [*ray, f"--address={first.address}:{PORT}", f"--node-ip-address={second.address}"]
    second.start(join, environment, logs / "2")
    wait_for(logs / "2", "Ray runtime started")
    return one


def wait_for_step(driver, project, step, log):
    deadline_s = time.monotonic() + 300
    while max(curve(project), default=0) < step:
        assert driver.poll() is None and time.monotonic() < deadline_s, log.read_text()[-6000:]
        time.sleep(0.3)
