"""What the training tests run on real ranks: each scenario returns a JSON report from rank 0.

    python ranks.py FOLDER SCENARIO...      with RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT set

Starting DeepSpeed takes seconds, so one launch of two gloo ranks runs all scenarios in turn.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from video_platform.batches.loader import Loader, Place
from video_platform.batches.order import Bucket, Order
from video_platform.errors import VdpError
from video_platform.training.checkpoint import Checkpoints
from video_platform.training.config import TrainingConfig
from video_platform.training.draws import generator
from video_platform.training.ema import decay_at
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Hook, Scalars, train
from video_platform.training.optimizers import orthogonalise
from video_platform.training.schedules import learning_rate

STEPS, BATCH, MICRO = 8, 8, 2
SETTINGS = {
    "stage 0": {"zero_stage": 0},
    "stage 1": {"zero_stage": 1},
    "stage 2": {"zero_stage": 2},
    "stage 3": {"zero_stage": 3},
    "stage 2 offloaded": {"zero_stage": 2, "offload_optimizer": "cpu"},
    "stage 1 bf16": {"zero_stage": 1, "precision": "bf16"},
    "stage 2 bf16": {"zero_stage": 2, "precision": "bf16"},
    "stage 3 bf16": {"zero_stage": 3, "precision": "bf16"},
    "recomputed": {"zero_stage": 3, "activation_checkpointing": True},
    **{f"muon {stage}": {"zero_stage": stage, "optimizer": "muon"} for stage in range(4)},
}


class Block(nn.Module):
    """Holds a parameter of its own beside those of its children; 17 does not divide by 2."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(17))
        self.linear = nn.Linear(17, 17)
        self.kernel = nn.Parameter(torch.randn(2, 1, 3) * 0.3)

    def forward(self, x):
        y = nn.functional.conv1d(x[:, None], self.kernel, padding=1).mean(1)
        return x + torch.tanh(self.linear(y)) * self.scale


class Network(nn.Module):
    """Small, with odd sizes and an odd number of parameters, a buffer and blocks."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("offset", torch.full((5,), 0.25))
        self.first, self.last = nn.Linear(5, 17), nn.Linear(17, 3)
        self.gain = nn.Parameter(torch.ones(1))
        self.blocks = nn.ModuleList([Block(), Block()])

    def block_names(self):
        return ["blocks.0", "blocks.1"]

    def forward(self, x):
        x = self.first(x - self.offset.to(x.dtype))
        for block in self.blocks:
            x = block(x)
        return self.last(x) * self.gain


def config(**knobs):
    base = {
        "steps": STEPS, "batch_size": BATCH, "micro_batch_size": MICRO, "learning_rate": 1e-2,
        "warmup_steps": 2, "clip_norm": 0.5, "ema_decay": 0.9, "log_every": 2,
        "checkpoint_every": None, "weight_decay": 0.1,
    }  # fmt: skip
    return TrainingConfig(**(base | knobs))


class Points:
    """Twenty points in five dimensions."""

    def __init__(self):
        self.points = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        return self.points[index]


def loss_of(module, batch, dtype=torch.float32):
    """Depends on samples and on noise drawn for their positions."""
    noise = [torch.randn(3, generator=generator(0, "noise", p)) for p in batch.positions]
    return (module(batch.data.to(dtype)).float() - torch.stack(noise)).square().mean()


class Regression:
    """The simplest step."""

    def __init__(self, engine, *, poison=()):
        self.engines = {"net": engine}
        self.seen = []
        self.poison = poison

    def update(self, micro_batches, at):
        engine, scalars = self.engines["net"], Scalars()
        for batch in micro_batches:
            loss = loss_of(engine.module, batch, engine.dtype)
            if at.step in self.poison and dist.get_rank() == dist.get_world_size() - 1:
                loss = loss * float("nan")
            engine.backward(loss, share=batch.share)
            scalars.add({"loss": loss}, share=batch.share)
        engine.step()
        self.seen.append(sorted(batch.positions[0] for batch in micro_batches))
        return scalars.totals

    def state_dict(self):
        return {"updates": len(self.seen)}

    def load_state_dict(self, state):
        self.restored = state["updates"]


def batches(knobs, *, rank=None, world=None):
    place = Place(
        rank=dist.get_rank() if rank is None else rank,
        world=dist.get_world_size() if world is None else world,
    )
    buckets = [Bucket(part, *knobs.sizes(1)) for part in (range(12), range(12, 20))]
    order = Order(buckets, seed=knobs.seed)
    return Loader(Points(), order, torch.stack, place=place)


class PlainMuon:
    """Muon on one process, written out; the Newton-Schulz iteration is the one thing it shares."""

    def __init__(self, matrices, *, momentum=0.95, decay=0.1):
        self.matrices, self.beta, self.decay = matrices, momentum, decay
        self.momenta = [torch.zeros_like(m) for m in matrices]

    @torch.no_grad()
    def step(self, rate):
        for matrix, momentum in zip(self.matrices, self.momenta, strict=True):
            momentum.mul_(self.beta).add_(matrix.grad * (1 - self.beta))
            ahead = self.beta * momentum + (1 - self.beta) * matrix.grad
            ahead = ahead.flatten(1)
            turned = orthogonalise(ahead) * 0.2 * max(ahead.shape) ** 0.5
            matrix.copy_(matrix - rate * (turned.view_as(matrix) + self.decay * matrix))


def plain(knobs):
    """Train with PyTorch alone, on whole batches; return weights, average and losses."""
    module = Network()
    turned = [p for p in module.blocks.parameters() if p.ndim > 1 and knobs.optimizer == "muon"]
    rest = [p for p in module.parameters() if all(p is not matrix for matrix in turned)]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, betas=knobs.betas, eps=knobs.epsilon)
    muon = PlainMuon(turned)
    average = {n: p.detach().clone() for n, p in module.named_parameters()}
    losses = []
    source = batches(knobs, rank=0, world=1).steps()
    for step in range(knobs.steps):
        for group in adam.param_groups:
            group["lr"] = learning_rate(knobs, step)
        loss = sum(loss_of(module, batch) * batch.share for batch in next(source))
        module.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), knobs.clip_norm)
        adam.step()
        muon.step(learning_rate(knobs, step))
        losses.append(loss.item())
        for name, parameter in module.named_parameters():
            weight = 1 - decay_at(knobs.ema_decay, step, warmup=True)
            average[name].lerp_(parameter.detach(), weight)
    return dict(module.named_parameters()), average, losses


def furthest(mine, other):
    return max(float((mine[n] - other[n]).detach().abs().max()) for n in other)


def all_state(engine):
    return {kind: engine.gather(kind) for kind in engine.kinds}


def same(one, other):
    """Bit for bit."""
    return one.keys() == other.keys() and all(
        torch.equal(one[kind][n], other[kind][n]) for kind in one for n in one[kind]
    )


def stages(folder):
    """Every setting beside a plain PyTorch loop."""
    by_optimizer = {name: plain(config(optimizer=name)) for name in ("adamw", "muon")}
    report = {}
    for name, setting in SETTINGS.items():
        knobs = config(**setting, log_every=1)
        weights, average, losses = by_optimizer[knobs.optimizer]
        engine = Engine(Network(), knobs)
        logged = []
        train(
            Regression(engine), batches(knobs), knobs,
            report=lambda done, scalars, logged=logged: logged.append(scalars["loss"]),
        )  # fmt: skip
        state = engine.full_parameters()
        report[name] = {
            "weights": furthest(state, weights),
            "average": furthest(engine.ema_parameters(), average),
            "losses": logged,
            "plain losses": losses,
            "buffer": state["offset"].tolist(),
        }
    return report


def resume(folder):
    """Stop after 5 of 8 steps and go on in a new engine, at each stage, and from 1 to 3."""
    report = {}
    for name, setting in SETTINGS.items():
        if name.startswith(("stage 2 off", "recomputed")):
            continue
        whole = Engine(Network(), config(**setting))
        train(Regression(whole), batches(config()), config(**setting))
        store = Checkpoints(folder / name, run_fingerprint="points")
        first, second = (Regression(Engine(Network(), config(**setting))) for _ in range(2))
        stop = iter([False] * 4 + [True])
        outcome = train(
            first, batches(config()), config(**setting), checkpoints=store,
            should_stop=lambda stop=stop: next(stop) and dist.get_rank() == 1,
        )  # fmt: skip
        ended = train(second, batches(config()), config(**setting), checkpoints=store)
        report[name] = {
            "stopped": [outcome.step, outcome.finished],
            "ended": [ended.started_at, ended.step, ended.finished],
            "same": same(all_state(whole), all_state(second.engines["net"])),
            "state": second.restored,
        }
    for stage in (1, 3):
        report[f"stage 1 to {stage}"] = elastic(folder / "stage 1", zero_stage=stage)
        report[f"muon 1 to {stage}"] = elastic(
            folder / "muon 1", zero_stage=stage, optimizer="muon"
        )
    return report


def elastic(folder, **setting):
    """Go on from the checkpoint after step 8, of stage 1 on two ranks, for four more steps."""
    knobs = config(steps=STEPS + 4, **setting)
    store = Checkpoints(folder, run_fingerprint="points")
    step = Regression(Engine(Network(), knobs))
    manifest = store.restore(step.engines)
    source = batches(knobs).steps(manifest.step)
    for number in range(manifest.step, knobs.steps):
        step.update(next(source), At(number, knobs.seed))
    ranks = [None] * dist.get_world_size()
    dist.all_gather_object(ranks, step.seen)
    weights = step.engines["net"].full_parameters()
    return {
        "started_at": manifest.step,
        "weights": {name: value.flatten().tolist() for name, value in weights.items()},
        "positions": sorted(p for rank in ranks for update in rank for p in update),
    }


def skips(folder):
    """A gradient that is not finite on one rank: nothing moves on any; too many end the run."""
    report = {}
    for stage in range(4):
        knobs = config(zero_stage=stage, steps=3, max_skipped_steps=2)
        engine = Engine(Network(), knobs)
        before = all_state(engine)
        step = Regression(engine, poison=[0])
        source = batches(knobs).steps()
        step.update(next(source), At(0, 0))
        untouched = same(before, all_state(engine))
        step.update(next(source), At(1, 0))
        moved = not same(before, all_state(engine))
        try:
            train(Regression(engine, poison=range(9)), batches(knobs), knobs)
            message = ""
        except VdpError as error:
            message = str(error)
        report[f"stage {stage}"] = {
            "untouched": untouched,
            "moved": moved,
            "finite": bool(all(t.isfinite().all() for t in engine.full_parameters().values())),
            "message": message,
        }
    return report


def ragged(folder):
    """Micro-batches of unequal size on two ranks, weighted by their share, equal one batch."""
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(3))
    pieces = [[slice(0, 1), slice(1, 4)], [slice(4, 6), slice(6, 7)]]
    report = {}
    for stage in range(4):
        engine = Engine(Network(), config(zero_stage=stage))
        for piece in pieces[dist.get_rank()]:
            loss = engine.module(x[piece]).square().mean()
            engine.backward(loss, share=len(x[piece]) / 7)
        engine.step()
        module = Network()
        module(x).square().mean().backward()
        norm = nn.utils.get_total_norm([p.grad for p in module.parameters()])
        report[f"stage {stage}"] = abs(engine.last.grad_norm - float(norm)) / float(norm)
        report[f"stage {stage} uneven"] = [uneven(engine, size) for size in (3, 1)]
    return report


def uneven(engine, batch_size):
    """Take a step of fewer or odd samples; return how far its gradient is from the whole batch's.

    Of one sample the other rank has nothing, and goes along.
    """

    def load(rank, world):
        order = Order([Bucket(range(12), batch_size, 2)], seed=1)
        return Loader(Points(), order, torch.stack, place=Place(rank=rank, world=world)).load(0)

    module = Network()
    module.load_state_dict(engine.full_parameters())
    for batch in load(dist.get_rank(), dist.get_world_size()):
        engine.backward(loss_of(engine.module, batch), share=batch.share)
    engine.step()
    sum(loss_of(module, batch) * batch.share for batch in load(0, 1)).backward()
    norm = float(nn.utils.get_total_norm([p.grad for p in module.parameters()]))
    return abs(engine.last.grad_norm - norm) / norm


def sigterm(folder):
    """A preempted rank stops all of them at one step, with a checkpoint; hooks run on both."""
    engine = Engine(Network(), config())

    class Preempted(Regression):
        def update(self, micro_batches, at):
            if at.step == 3 and dist.get_rank() == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().update(micro_batches, at)

    hooked, logged = [], []

    def hook(done):
        dist.barrier()
        hooked.append(done)
        return {"validation/loss": 1.0}

    store = Checkpoints(folder / "sigterm", run_fingerprint="points")
    outcome = train(
        Preempted(engine), batches(config()), config(), checkpoints=store,
        hooks=[Hook(every=3, run=hook)],
        report=lambda done, scalars: logged.append([done, scalars]),
    )  # fmt: skip
    return {"step": outcome.step, "saved": store.newest().step, "hooked": hooked, "logged": logged}


def main(folder, names, scenarios):
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name in names:
        report = scenarios[name.replace("-", "_")](folder)
        dist.barrier()
        if dist.get_rank() == 0:
            (folder / f"{name}.json").write_text(json.dumps(report))
    dist.destroy_process_group()


def alone(folder):
    """One rank goes on from what two ranks wrote."""
    return elastic(folder / "stage 1", zero_stage=1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:], globals())
