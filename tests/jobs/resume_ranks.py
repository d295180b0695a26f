"""Runs that stop and go on, on real ranks, through the parts of pretraining: `test_resume.py`.

python resume_ranks.py FOLDER SCENARIO...   with RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT

FOLDER holds `recipe.yaml`, a cache and an autoencoder. Rank 0 writes a report of each scenario.
"""

import random
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from jobs.denoising import DenoisingStep
from jobs.fine_tuning import begun
from jobs.history import History
from jobs.latents import LatentSource
from jobs.pretrain import open_meter
from jobs.recipe import Recipe
from tests.faults.training_world import hash_of
from tests.video_platform.training import ranks
from video_platform.cluster import WorkerContext
from video_platform.config import load_recipe
from video_platform.training.checkpoint import Checkpoints
from video_platform.training.engine import Engine
from video_platform.training.loop import train
from video_platform.training.ranks import from_all

STEPS = 20
LAST = 2
"""Steps that are taken after most of the resumptions; the rest go on to the end."""
TO_THE_END = (1, 9)
SETTINGS = {
    "stage 2 bf16": ("zero_stage=2", "precision=bf16"),
    "stage 3": ("zero_stage=3", "ema_widths=[0.1]"),
}


class Recorded:
    """A step that writes down which samples it was given, and what the network then is."""

    def __init__(self, step, *, hashes):
        self.step, self.engines = step, step.engines
        self.state_dict, self.load_state_dict = step.state_dict, step.load_state_dict
        self.samples, self.hashes = {}, {} if hashes else None

    def update(self, micro_batches, at):
        scalars = self.step.update(micro_batches, at)
        mine = [
            pair
            for b in micro_batches
            if b.share
            for pair in zip(b.positions, b.indices, strict=True)
        ]
        self.samples[at.step + 1] = sorted(pair for each in from_all(mine) for pair in each)
        if self.hashes is not None:
            self.hashes[at.step + 1] = hash_of(held(self.step.engine))
        return scalars


def held(engine):
    """Return every bit of weights, moments and averages that this rank holds, and the counters."""
    state = {
        kind: {name: part.clone() for name, _, part in engine.fragments(kind)}
        for kind in engine.kinds
    }
    return state | {"counters": {n: torch.tensor(v) for n, v in engine.counters().items()}}


class World:
    """The parts of a run, built as the job builds them."""

    def __init__(self, folder, *overrides, loader=("prefetch_steps=0",)):
        words = [f"pretrain.training.{each}" for each in overrides]
        words += [f"loader.{each}" for each in loader]
        self.recipe = load_recipe(Recipe, folder / "recipe.yaml", words)
        self.section = self.recipe.pretrain
        self.config = self.section.training
        self.source = LatentSource(self.recipe)
        self.context = WorkerContext(
            rank=dist.get_rank(), world=dist.get_world_size(), device="cpu",
            report=print, stop_reason=lambda: None,
        )  # fmt: skip
        self.engine = Engine(begun(self.recipe, self.source), self.config)

    def run(self, url, *, stop_after=STEPS, hashes=True):
        """Train; return by step the losses, the samples, and hashes of the whole state."""
        network = self.engine.module
        step = DenoisingStep(
            engine=self.engine, source=self.source, section=self.section, history=History(),
            meter=open_meter(
                self.engine, network.config, self.section, self.source, self.context
            ),
        )  # fmt: skip
        recorded, losses = Recorded(step, hashes=hashes), {}
        _, trained = self.source.split(self.section.held_out, seed=self.config.seed)
        outcome = train(
            recorded,
            self.source.loader(trained, self.config, self.context, packs=True),
            self.config,
            checkpoints=Checkpoints(url, run_fingerprint="a run", keep=STEPS),
            report=lambda done, scalars: losses.update({done: scalars["loss"].hex()}),
            should_stop=lambda: self.engine.steps >= stop_after,
        )
        return {
            "from": outcome.started_at,
            "losses": losses,
            "samples": recorded.samples,
            "hashes": recorded.hashes,
        }


def every_step(folder):
    """Save after every step; then go on from each of the checkpoints."""
    return {name: resumptions(folder / name, folder, SETTINGS[name]) for name in SETTINGS}


def resumptions(place, folder, setting):
    torch.manual_seed(0)
    whole = World(folder, *setting, "checkpoint_every=1").run(place / "whole")
    world, unlike = None, []
    for start in range(1, STEPS):
        if world is None or start in TO_THE_END:
            torch.manual_seed(start)  # another network, which the checkpoint must overwrite
            world = World(folder, *setting, loader=(f"readers={start}", "prefetch_steps=3"))
        scramble(start)
        end = STEPS if start in TO_THE_END else min(start + LAST, STEPS)
        again = world.run(cut_off(place, start), stop_after=end)
        same = again["from"] == start and continues(again, whole, start, end)
        if not all(from_all(same)):
            unlike.append(start)
    return {"unlike": unlike, "losses": whole["losses"]}


def continues(again, whole, start, end):
    """Say whether what came after a start is bit for bit what came after it in the whole run."""
    kinds = ("losses", "samples", "hashes") if dist.get_rank() == 0 else ("samples", "hashes")
    steps = range(start + 1, end + 1)
    return all(again[kind] == {step: whole[kind][step] for step in steps} for kind in kinds)


def scramble(seed):
    """Leave the global generators in a state of no meaning, another on each rank."""
    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(1000 * dist.get_rank() + seed)


def cut_off(place, start):
    """Copy the checkpoint of one step to a place of its own."""
    name = f"step-{start:08d}"
    if dist.get_rank() == 0:
        shutil.copytree(place / "whole" / name, place / f"from-{start}" / name)
    dist.barrier()
    return place / f"from-{start}"


def elastic(folder):
    """Run whole at stage 1, and stop at step 7 for others to go on."""
    torch.manual_seed(0)
    whole = World(folder, "zero_stage=1", "checkpoint_every=7").run(
        folder / "elastic", hashes=False
    )
    if dist.get_rank() == 0:
        for name in ("other-ranks", "other-stage"):
            step = "step-00000007"
            shutil.copytree(folder / "elastic" / step, folder / name / step)
    dist.barrier()
    other = World(folder, "zero_stage=3").run(folder / "other-stage", hashes=False)
    return {"whole": whole, "stage 3": other}


def alone(folder):
    """One rank goes on."""
    world = World(folder, "zero_stage=1")
    return world.run(folder / "other-ranks", stop_after=13, hashes=False)


def together(folder):
    """Two ranks go on again."""
    return World(folder, "zero_stage=2").run(folder / "other-ranks", hashes=False)


if __name__ == "__main__":
    ranks.main(Path(sys.argv[1]), sys.argv[2:], globals())
