"""What a checkpoint costs the training that goes on beside it, in one table.

    python -m tests.benchmarks.checkpoint                     # 25M parameters, a folder in /tmp
    python -m tests.benchmarks.checkpoint --parameters 5 --url s3://bucket/prefix

One rank of this machine trains a network of matrices with AdamW and an average (16 bytes a
parameter). `copy` is how long `save` keeps the loop from its next step; `written` how long it takes
until the checkpoint exists while steps go on; `synchronous` how long a loop stands still that waits
for that; `drag` is what steps take longer in the meantime, all told. The share is that of copy and
drag in the time of training with a save every so many seconds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator

import torch
from torch import nn

from video_platform.training.checkpoint import Checkpoints
from video_platform.training.config import TrainingConfig
from video_platform.training.engine import Engine

WIDTH, ROWS = 1024, 64
INTERVALS_S = (60, 300, 600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parameters", type=float, default=25, help="millions")
    parser.add_argument("--url", help="where to save; a temporary folder if left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--zero-stage", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    depth = max(1, round(options.parameters * 1e6 / (WIDTH * WIDTH + WIDTH)))
    network = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(depth)))
    config = TrainingConfig(
        steps=1, batch_size=1, micro_batch_size=1, zero_stage=options.zero_stage
    )
    engine = Engine(network, config)
    with tempfile.TemporaryDirectory() as scratch:
        store = Checkpoints(options.url or scratch, run_fingerprint="benchmark", keep=1)
        rounds = [measure(engine, store, number) for number in range(options.rounds + 1)][1:]
    show({name: [each[name] for each in rounds] for name in rounds[0]}, engine)


def measure(engine: Engine, store: Checkpoints, number: int) -> dict[str, float]:
    """Save once while steps go on, and once while they wait; in seconds."""
    alone = [step(engine) for _ in range(4)]
    start_s = time.perf_counter()
    store.save({"net": engine}, step=2 * number, state={})
    copied_s = time.perf_counter()
    beside = list(steps_until_written(engine, store))
    written_s = time.perf_counter()
    store.wait()
    waiting_s = time.perf_counter()
    store.save({"net": engine}, step=2 * number + 1, state={})
    store.wait()
    usual_s = statistics.median(alone)
    return {
        "step": usual_s,
        "copy": copied_s - start_s,
        "written": written_s - start_s,
        "synchronous": time.perf_counter() - waiting_s,
        "drag": max(0.0, sum(beside) - len(beside) * usual_s),
    }


def steps_until_written(engine: Engine, store: Checkpoints) -> Iterator[float]:
    """Take steps for as long as the save is under way."""
    while store.saving:
        yield step(engine)


def step(engine: Engine) -> float:
    """Take one step of training; return how long it took."""
    start_s = time.perf_counter()
    x = torch.ones(ROWS, WIDTH)
    engine.backward(engine.module(x).square().mean(), share=1.0)
    engine.step()
    return time.perf_counter() - start_s


def show(rounds: dict[str, list[float]], engine: Engine) -> None:
    """Print the medians."""
    medians = {name: statistics.median(values) for name, values in rounds.items()}
    size = sum(p.numel() for p in engine.module.parameters())
    size_bytes = 4 * size * len(engine.kinds)
    print(f"{size / 1e6:.1f}M parameters, {size_bytes / 1e6:.0f} MB a checkpoint, medians of")
    print(f"{len(rounds['copy'])} saves; a step takes {1e3 * medians['step']:.0f} ms")
    for name in ("copy", "drag", "written", "synchronous"):
        rate = f"{size_bytes / medians[name] / 1e6:8.0f} MB/s" if name != "drag" else ""
        print(f"  {name:12} {medians[name]:7.3f} s {rate}")
    for interval_s in INTERVALS_S:
        share = (medians["copy"] + medians["drag"]) / interval_s
        whole = medians["synchronous"] / interval_s
        print(f"a save every {interval_s:3} s: {share:6.2%} of the time, synchronous {whole:6.2%}")


if __name__ == "__main__":
    main()
