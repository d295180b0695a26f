"""What the tests of the loop run on real ranks: each scenario returns a JSON report from rank 0.

Launched like `ranks.py`.
"""

import logging
import resource
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from tests.video_platform.training import ranks
from tests.video_platform.training.ranks import (
    Network,
    Points,
    Regression,
    all_state,
    config,
    loss_of,
    same,
)
from video_platform.batches.loader import Loader, Place
from video_platform.batches.order import Bucket, Order
from video_platform.errors import CheckpointError, DivergedError
from video_platform.training.attempt import Attempt
from video_platform.training.checkpoint import Checkpoints
from video_platform.training.engine import Engine
from video_platform.training.loop import Scalars, train

BAD_PLACES = (3, 4, 5)
STEPS = 9
SETTINGS = {
    **{f"stage {stage}": {"zero_stage": stage} for stage in range(4)},
    "stage 2 bf16": {"zero_stage": 2, "precision": "bf16"},
}


class Bad(Regression):
    """A step in which something is not finite on the last rank, by the place of its batch."""

    def __init__(self, engine, how="latent", places=BAD_PLACES):
        super().__init__(engine)
        self.how, self.places = how, places

    def update(self, micro_batches, at):
        engine, scalars = self.engines["net"], Scalars()
        place = micro_batches[0].positions[0] // ranks.BATCH
        bad = place in self.places and dist.get_rank() == dist.get_world_size() - 1
        for batch in micro_batches:
            if bad and self.how == "latent":
                batch.data[0, 0] = float("inf")
            if bad and self.how == "gradient":
                weight = engine.module.first.weight
                handle = weight.register_hook(spoiled)
            loss = loss_of(engine.module, batch, engine.dtype)
            if bad and self.how == "loss":  # its gradient is as it would be
                loss = loss + float("nan")
            engine.backward(loss, share=batch.share)
            if bad and self.how == "gradient":
                handle.remove()
            scalars.add({"loss": loss}, share=batch.share)
        engine.step()
        return scalars.totals


def spoiled(grad):
    grad = grad.clone()
    grad.view(-1)[3] = float("nan")
    return grad


class Named(Points):
    def name(self, index):
        return f"point-{index}"


class Without:
    """Batches of which some are left out."""

    def __init__(self, loader, places):
        self.loader, self.places = loader, places
        self.state_dict, self.load_state_dict = loader.state_dict, loader.load_state_dict
        self.name = loader.name

    def steps(self):
        for place, batches in enumerate(self.loader.steps()):
            if place not in self.places:
                yield batches


def loader(knobs):
    order = Order([Bucket(range(20), *knobs.sizes(1))], seed=knobs.seed)
    place = Place(rank=dist.get_rank(), world=dist.get_world_size())
    return Loader(Named(), order, torch.stack, place=place)


def knobs_of(**changes):
    return config(**({"steps": STEPS, "checkpoint_every": 3, "log_every": 1} | changes))


class Log(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())

    def __enter__(self):
        logging.getLogger("video_platform").addHandler(self)
        return self

    def __exit__(self, *_):
        logging.getLogger("video_platform").removeHandler(self)


def rewinds(folder):
    """Three bad batches in a row: back to the checkpoint, on with the batches that follow."""
    report = {}
    for how in ("latent", "gradient", "loss"):
        for name, setting in SETTINGS.items():
            if how != "latent" and name not in ("stage 1", "stage 0"):
                continue
            report[f"{how}, {name}"] = rewind(folder / f"{how} {name}", how, knobs_of(**setting))
    return report


def rewind(folder, how, knobs):
    plain = Regression(Engine(Network(), knobs))
    train(plain, Without(loader(knobs), BAD_PLACES), knobs)
    step, told = Bad(Engine(Network(), knobs), how), []
    store = Checkpoints(folder, run_fingerprint="points")
    with Log() as log:
        outcome = train(
            step, loader(knobs), knobs, checkpoints=store,
            report=lambda done, scalars: told.append([done, scalars]),
        )  # fmt: skip
    return {
        "same": same(all_state(plain.engines["net"]), all_state(step.engines["net"])),
        "outcome": [outcome.step, outcome.rewinds, outcome.skipped_steps],
        "log": log.lines,
        "finite": all(value == value for _, scalars in told for value in scalars.values()),
        "steps": [done for done, _ in told],
    }


def rewind_then_stop(folder):
    """A run that went back, was stopped and is started again ends like one that was not."""
    knobs = knobs_of(zero_stage=1)
    whole, first, second = (Bad(Engine(Network(), knobs)) for _ in range(3))
    store = Checkpoints(folder / "whole", run_fingerprint="points")
    train(whole, loader(knobs), knobs, checkpoints=store)
    store = Checkpoints(folder / "parts", run_fingerprint="points")
    asked = iter([False] * 7 + [True])
    stopped = train(first, loader(knobs), knobs, checkpoints=store, should_stop=lambda: next(asked))
    ended = train(second, loader(knobs), knobs, checkpoints=store)
    return {
        "same": same(all_state(whole.engines["net"]), all_state(second.engines["net"])),
        "steps": [stopped.step, ended.started_at, ended.step],
        "counts": [stopped.rewinds, ended.rewinds, ended.skipped_steps],
    }


def diverges(folder):
    """What is bad again and again ends the run on all ranks alike."""
    knobs = knobs_of(zero_stage=2, steps=40)
    step = Bad(Engine(Network(), knobs), places=range(4, 1000))
    store = Checkpoints(folder / "diverges", run_fingerprint="points")
    try:
        train(step, loader(knobs), knobs, checkpoints=store)
        message = ""
    except DivergedError as error:
        message = str(error)
    messages = [None] * dist.get_world_size()
    dist.all_gather_object(messages, message)
    return messages


def straggler(folder):
    """A rank that is slow before its first forward pass is named, and so is its host."""
    knobs = knobs_of(zero_stage=1, steps=4)

    class Slow(Regression):
        def update(self, micro_batches, at):
            if dist.get_rank() == 1 and at.step == 2:
                time.sleep(1.0)
            return super().update(micro_batches, at)

    told = []
    with Log() as log:
        train(
            Slow(Engine(Network(), knobs)), loader(knobs), knobs,
            report=lambda done, scalars: told.append(scalars),
        )  # fmt: skip
    return {"log": log.lines, "told": told}


def account(folder):
    """The phases of a run add up to the time that it took."""
    knobs = knobs_of(zero_stage=1)
    store = Checkpoints(folder / "account", run_fingerprint="points")
    step = Regression(Engine(Network(), knobs))
    attempt = Attempt()
    start_s, told = time.time(), []
    outcome = train(
        step, loader(knobs), knobs, checkpoints=store, attempt=attempt,
        report=lambda done, scalars: told.append(scalars),
    )  # fmt: skip
    return {
        "wall_s": time.time() - start_s,
        "seconds": dict(outcome.seconds),
        "saved": store.newest().state["ledger"],
        "told": told[-1:],
    }


def full(folder):
    """Rank 1 has no room for the second checkpoint; the third would be due much later."""
    knobs = knobs_of(zero_stage=1, steps=40, checkpoint_every=10)
    store = Checkpoints(folder / "full", run_fingerprint="points")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Filling(Regression):
        def update(self, micro_batches, at):
            if at.step == 19 and dist.get_rank() == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
            if at.step >= 20:
                time.sleep(0.1)
            self.reached = at.step
            return super().update(micro_batches, at)

    step, message = Filling(Engine(Network(), knobs)), ""
    try:
        train(step, loader(knobs), knobs, checkpoints=store)
    except CheckpointError as error:
        message = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    told = [None] * dist.get_world_size()
    dist.all_gather_object(told, [message, step.reached])
    return {"told": told, "newest": store.newest().step}


def parts(folder):
    """Totals over some samples are divided by their number, and left out where there were none."""
    scalars = Scalars()
    for total, count in ((3.0, 1), (5.0, 3)):
        scalars.add_parts(
            {"a": torch.tensor(total), "b": torch.tensor(0.0)},
            {"a": torch.tensor(count), "b": torch.tensor(0)},
        )

    class Told(Regression):
        def update(self, micro_batches, at):
            return super().update(micro_batches, at) | scalars.totals

    knobs = knobs_of(zero_stage=1, steps=4, log_every=2)
    told = []
    train(
        Told(Engine(Network(), knobs)), loader(knobs), knobs,
        report=lambda done, scalars: told.append({n: scalars.get(n) for n in "ab"}),
    )  # fmt: skip
    return told


if __name__ == "__main__":
    ranks.main(Path(sys.argv[1]), sys.argv[2:], globals())
