"""How much of a run's time makes the model better while its workers are killed again and again.

    python -m tests.benchmarks.goodput --minutes 8 --kill-every 60

Trains a small transformer with `vdp pretrain` on two workers, kills one of them at every interval,
and prints where the time went, what a kill costs, and the goodput with a kill every ten minutes.
"""

import argparse
import random
import signal
import tempfile
import time
from pathlib import Path

from tests.faults.pretrain_runs import curve, last, vdp, wait_for_step, workers
from tests.jobs.precompute_world import config_for, make_world, run_precompute
from video_platform import cluster
from video_platform.cluster_config import ClusterConfig
from video_platform.errors import PreemptedError
from video_platform.training.throughput import PHASES

RECIPE = """
name: goodput
pixels: {frames: 5, height: 16, width: 16, fps: 8.0}
limits: {timeout_s: 60}
text: {kind: words, dim: 8, max_tokens: 4}
model:
  transformer:
    latent_channels: 4
    text_dim: 8
    num_heads: 8
    head_dim: 32
    ffn_dim: 1024
    num_layers: 6
    patch_size: [1, 1, 1]
pretrain:
  held_out: 0.2
  training:
    steps: 1000000
    batch_size: 32
    micro_batch_size: 16
    zero_stage: 1
    checkpoint_every: 20
    validate_every: 500
    log_every: 5
cluster: {num_cpus: 2, workers: 2, max_failures: -1}
"""
GOAL_INTERVAL_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--kill-every", type=float, default=60, help="seconds")
    parser.add_argument("--checkpoint-every", type=int, default=20, help="steps")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_world(folder)
        cache = f"{folder}/cache"
        with cluster.start(ClusterConfig(num_cpus=2)):
            run_precompute(folder, config_for(cache), lambda now: None)
        recipe, log, project = folder / "recipe.yaml", folder / "log", folder / "project"
        recipe.write_text(RECIPE)
        overrides = [
            f"project={project}",
            f"cache.url={cache}",
            f"autoencoder.path={folder}/autoencoder",
            f"pretrain.training.checkpoint_every={options.checkpoint_every}",
        ]
        start_s = time.time()
        driver = vdp("pretrain", recipe, *overrides, log=log)
        wait_for_step(driver, project, 1, log)
        kills = run_with_kills(driver, options.minutes * 60, options.kill_every)
        driver.send_signal(signal.SIGTERM)
        code = driver.wait()
        if code != PreemptedError.exit_code:
            raise SystemExit(f"exit code {code}: {log.read_text()[-3000:]}")
        show(last(project, "goodput/"), time.time() - start_s, kills, max(curve(project)))


def run_with_kills(driver, seconds: float, every_s: float) -> int:
    """Kill a worker at every interval, not in the last one; return how many."""
    draw, kills, end_s = random.Random(0), 0, time.monotonic() + seconds
    while time.monotonic() + every_s < end_s:
        time.sleep(every_s)
        victims = workers(driver)
        if victims:
            draw.choice(victims).kill()
            kills += 1
    time.sleep(max(0.0, end_s - time.monotonic()))
    return kills


def show(shares: dict[str, float], wall_s: float, kills: int, steps: int) -> None:
    share = {name: shares[f"goodput/{name}"] for name in PHASES}
    print(f"{wall_s:.0f} s, {kills} kills, {steps} steps")
    for name, value in share.items():
        print(f"  {name:8} {value:6.1%}")
    smooth = sum(share[name] for name in ("data", "step", "hooks", "save", "other"))
    again = share["init"] * kills / (kills + 1)
    cost_s = (share["lost"] + share["down"] + share["restore"] + again) * wall_s / max(kills, 1)
    print(f"a kill costs {cost_s:.1f} s")
    print(f"checkpoints stall training for {share['save'] / smooth:.2%} of an undisturbed run")
    undisturbed = share["step"] / smooth
    goodput = undisturbed * (1 - cost_s / GOAL_INTERVAL_S)
    print(f"goodput with a kill every {GOAL_INTERVAL_S / 60:.0f} minutes: {goodput:.1%}")


if __name__ == "__main__":
    main()
