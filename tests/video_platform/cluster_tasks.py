"""What the cluster tests run on Ray workers; imported there by name."""

import os
import sys
import time
from pathlib import Path

from video_platform import cluster
from video_platform.cluster_config import ClusterConfig
from video_platform.errors import TrainingError


def train_a_step(payload, context):
    """Take one ZeRO step on the process group that Ray opened, then wait for the wish to stop."""
    import torch
    import torch.distributed as dist

    from video_platform.training.config import TrainingConfig
    from video_platform.training.engine import Engine

    config = TrainingConfig(steps=1, batch_size=2, micro_batch_size=1, zero_stage=2)
    engine = Engine(torch.nn.Linear(3, 1), config)
    engine.backward(engine.module(torch.ones(1, 3)).mean(), share=1 / context.world)
    applied = engine.step().applied
    if context.rank == 0:
        context.report({"step": 1, "applied": applied})
    while not context.should_stop():
        time.sleep(0.05)
    dist.barrier()
    return {
        "payload": payload,
        "world": dist.get_world_size(),
        "threads": torch.get_num_threads(),
        "device": context.device,
        "rank": context.rank,
    }


def die_once(folder, context):
    """Die on the first attempt; tell of it on the second."""
    marker = Path(folder) / "died"
    if not marker.exists():
        marker.touch()
        time.sleep(1)
        os._exit(3)
    return "came back"


def train_in_a_job():
    """Run as a submitted job: join its cluster, train there, exit with a code of its own."""
    config = ClusterConfig(workers=1)
    with cluster.start(config):
        result = cluster.run_workers(whereabouts, None, config=config)
    print(f"trained in {result}")
    sys.exit(7)


def whereabouts(payload, context):
    """Return where the code of a worker lies."""
    import jobs

    return jobs.__file__


def fail(payload, context):
    """Raise one of our errors on the last rank, or die without a word."""
    import torch.distributed as dist

    if context.rank == context.world - 1:
        if payload == "die":
            time.sleep(1)
            os._exit(3)
        raise TrainingError(f"no gradient in {payload}; turn a knob")
    dist.barrier()
