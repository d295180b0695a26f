"""A small training run on Ray's workers, and what goes wrong in it.

Everything is real but the size: Ray, two processes with a gloo group, DeepSpeed, checkpoints.
Faults come from the test's own step and dataset, so that the product holds no code for them; each
happens once in a run, at a step and on a rank, and leaves a marker.
"""

import dataclasses
import hashlib
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist

from tests.faults.dying import die_at
from tests.video_platform.training.ranks import Network, Points, Regression, all_state, config
from video_platform import cluster
from video_platform.batches.loader import Loader, Place
from video_platform.batches.order import Bucket, Order
from video_platform.cluster_config import ClusterConfig
from video_platform.training.checkpoint import Checkpoints
from video_platform.training.engine import Engine
from video_platform.training.loop import train

STEPS = 12
KNOBS = {"steps": STEPS, "checkpoint_every": 3, "log_every": 1, "zero_stage": 2}


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that happens once."""

    kind: str
    """A method of `Faulty`."""
    rank: int
    step: int
    """Before this step, counted from 0; of `kill_in_save`, the changes of the disk in a save."""


@dataclasses.dataclass(frozen=True)
class World:
    """What a run is given."""

    folder: str
    """For markers, and checkpoints unless `checkpoints` says otherwise."""
    faults: tuple[Fault, ...] = ()
    bad_samples: tuple[int, ...] = ()
    """Indices of samples that hold a NaN."""
    checkpoints: str | None = None
    knobs: dict = dataclasses.field(default_factory=dict)
    environment: dict = dataclasses.field(default_factory=dict)
    pause_s: float = 0.0
    """How much longer each step takes."""


class BadPoints(Points):
    """Points of which some are not finite."""

    def __init__(self, bad):
        super().__init__()
        for index in bad:
            self.points[index, 0] = float("nan")

    def name(self, index):
        return f"point-{index}"


class Faulty(Regression):
    """The simplest step, with faults."""

    def __init__(self, engine, world, rank):
        super().__init__(engine)
        self.world, self.rank = world, rank

    def update(self, micro_batches, at):
        time.sleep(self.world.pause_s)
        for fault in self.world.faults:
            due = (fault.rank, fault.step) == (self.rank, at.step) and hasattr(self, fault.kind)
            if due and first_time(self.world, fault):
                getattr(self, fault.kind)()
        return super().update(micro_batches, at)

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def term(self):
        os.kill(os.getpid(), signal.SIGTERM)

    def stop(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def slow(self):
        time.sleep(1.0)

    def fail(self):
        raise RuntimeError("something broke")

    fail_too = fail_again = fail_last = fail

    def bad_gradient(self):
        parameter = self.engines["net"].module.first.weight
        handle = parameter.register_hook(lambda grad: (handle.remove(), grad * float("nan"))[1])


def first_time(world, fault):
    """Leave a marker, unless it is there."""
    marker = Path(world.folder, f"{fault.kind}-{fault.rank}-{fault.step}")
    if marker.exists():
        return False
    marker.touch()
    return True


def die_in_a_save(world, rank):
    """Kill this process before a change of the disk below the checkpoints, counted from 0."""
    for fault in world.faults:
        if fault.kind == "kill_in_save" and fault.rank == rank and first_time(world, fault):
            die_at(place_of(world), fault.step)


def place_of(world):
    return world.checkpoints or f"{world.folder}/checkpoints"


def train_small(world, context):
    """Run on every rank; rank 0 tells losses as they come, and what the network ended as."""
    os.environ.update(world.environment)
    knobs = config(**(KNOBS | world.knobs))
    engine = Engine(Network(), knobs)
    order = Order([Bucket(range(20), *knobs.sizes(1))], seed=knobs.seed)
    points = BadPoints(world.bad_samples)
    place = Place(rank=context.rank, world=context.world)
    die_in_a_save(world, context.rank)

    def report(done, scalars):
        told = {"step": done, "loss": float(scalars.get("loss", float("nan"))).hex()}
        context.report(told | {"scalars": dict(scalars), "world": context.world})

    outcome = train(
        Faulty(engine, world, context.rank),
        Loader(points, order, torch.stack, place=place),
        knobs,
        checkpoints=Checkpoints(place_of(world), run_fingerprint="points"),
        report=report,
        should_stop=context.should_stop,
        attempt=context.attempt,
    )
    return {
        "outcome": dataclasses.asdict(outcome),
        "hash": hash_of(all_state(engine)),
        "world": dist.get_world_size(),
        "stopped_by": context.stop_reason(),
    }


def hash_of(state):
    """Hash every bit of parameters, optimiser and average."""
    digest = hashlib.sha256()
    for kind in sorted(state):
        for name in sorted(state[kind]):
            digest.update(f"{kind} {name}".encode())
            digest.update(state[kind][name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def run(world, *, on_progress=lambda told: None, workers=2, **knobs):
    """Run in the Ray that is open; return what rank 0 returned, with losses as hex by step."""
    losses, scalars = {}, {}

    def note(told):
        losses[told["step"]] = told["loss"]
        scalars[told["step"]] = told["scalars"]
        on_progress(told)

    Path(world.folder).mkdir(parents=True, exist_ok=True)
    settings = ClusterConfig(**({"workers": workers, "max_failures": 6} | knobs))
    result = cluster.run_workers(train_small, world, config=settings, on_progress=note)
    return result | {"losses": losses, "scalars": scalars}
