"""What the tests of the engine's arithmetic run on two ranks; launched like `ranks.py`."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.video_platform.training import ranks
from tests.video_platform.training.sequence_ranks import network, sample
from video_models.distillation.forward_mode import along
from video_models.layers.attention import attend_plainly
from video_platform.training.clipping import SETTLED, Clipping
from video_platform.training.engine import Engine
from video_platform.training.loop import At

POISONED = {
    **{f"stage {stage}": {"zero_stage": stage} for stage in range(4)},
    **{f"bf16 {stage}": {"zero_stage": stage, "precision": "bf16"} for stage in (1, 2, 3)},
    **{f"autocast {stage}": {"zero_stage": stage, "precision": "autocast"} for stage in (0, 2)},
    "offloaded": {"zero_stage": 2, "offload_optimizer": "cpu"},
    "weights offloaded": {
        "zero_stage": 3, "offload_optimizer": "cpu", "offload_parameters": "cpu",
    },
    "muon": {"zero_stage": 2, "optimizer": "muon"},
}  # fmt: skip

COMPILER = ("torch._inductor.compile_fx", "torch._inductor.lowering")


def tokens(module, number):
    """A clip for the transformer of `sequence_ranks`, and its velocity as a function."""
    x0, _, text, mask, t = sample(number)
    return x0, t, lambda x, t: module(x, t, text, text_mask=mask)


def forward_mode(folder):
    """A loss that holds a derivative along a direction, at the stages that know one.

    It comes first: ZeRO 3 replaces PyTorch's linear layer, in the whole process.
    """

    def loss_of(module, number):
        x, t, velocity = tokens(module, number)
        value, change = along(velocity, (x, t), (torch.ones_like(x), torch.ones_like(t)))
        return (velocity(x, t) - value.detach() + 0.1 * change.detach()).square().mean(), change

    def open_network():
        module = network()
        for block in module.blocks:
            block.attn1.function = block.attn2.function = attend_plainly
        return module

    knobs = ranks.config(clip_norm=None, weight_decay=0.0, ema_decay=None)
    plain = open_network()
    optimizer = torch.optim.AdamW(plain.parameters(), betas=knobs.betas, weight_decay=0.0)
    for step in range(3):
        optimizer.param_groups[0]["lr"] = ranks.learning_rate(knobs, step)
        optimizer.zero_grad()
        sum(loss_of(plain, 2 * step + rank)[0] for rank in range(2)).div(2).backward()
        optimizer.step()
    report = {"change": loss_of(plain, 0)[1].abs().max().item()}
    for stage in range(3):
        engine = Engine(open_network(), ranks.config(**(vars_of(knobs) | {"zero_stage": stage})))
        for step in range(3):
            engine.backward(loss_of(engine.module, 2 * step + dist.get_rank())[0], share=0.5)
            engine.step()
        report[f"stage {stage}"] = ranks.furthest(
            engine.full_parameters(), dict(plain.named_parameters())
        )
    return report


def vars_of(knobs):
    return {name: getattr(knobs, name) for name in ("clip_norm", "weight_decay", "ema_decay")}


def poisoned(folder):
    """One step whose loss is finite on all ranks and whose gradient is not, on one of them."""
    report = {}
    for name, knobs in POISONED.items():
        engine = Engine(ranks.Network(), ranks.config(**knobs))
        source = ranks.batches(ranks.config()).steps()
        before, results, losses = ranks.all_state(engine), [], []
        for step in range(2):
            for batch in next(source):
                out = engine.module(batch.data.to(engine.dtype)).float()
                loss = out.square().mean()
                if step == 0 and dist.get_rank() == 1:
                    loss = loss + (out * 0).abs().sum().sqrt()  # its derivative is infinity times 0
                losses.append(loss.item())
                engine.backward(loss, share=batch.share)
            results.append(engine.step(by_block=True))
            if step == 0:
                untouched = ranks.same(before, ranks.all_state(engine))
        after = ranks.all_state(engine)
        report[name] = {
            "losses": losses,
            "applied": [result.applied for result in results],
            "untouched": untouched,
            "moved": not ranks.same(before, after),
            "finite": all(bool(t.isfinite().all()) for k in after.values() for t in k.values()),
            "skipped": engine.skipped_steps,
        }
    return report


def clipped(folder):
    """A limit that follows the gradients, against a plain loop, over a batch 50 times too large."""
    knobs = {"steps": SETTLED + 6, "clip_norm": None, "clip_deviations": 2.0}
    large, half = SETTLED + 2, SETTLED + 1
    config = ranks.config(**knobs)
    module, clipping, limits = ranks.Network(), Clipping(None, 2.0), []
    groups = [
        {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in module.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, betas=config.betas, eps=config.epsilon)
    source = ranks.batches(config, rank=0, world=1).steps()

    def scaled(module, batch, step):
        return ranks.loss_of(module, batch) * (50 if step == large else 1)

    for step in range(config.steps):
        for group in adam.param_groups:
            group["lr"] = ranks.learning_rate(config, step)
        module.zero_grad()
        sum(scaled(module, batch, step) * batch.share for batch in next(source)).backward()
        norm = nn.utils.clip_grad_norm_(module.parameters(), clipping.limit).item()
        limits.append((norm, min(clipping.limit, 1e9)))
        clipping.note(norm)
        adam.step()
    report = {"norm": limits[large][0], "limit": limits[large][1]}
    for stage in range(4):
        engine = Engine(ranks.Network(), ranks.config(**knobs, zero_stage=stage))
        source = ranks.batches(config).steps()
        for step in range(config.steps):
            if step == half and stage == 1:
                engine = moved_on(engine, ranks.config(**knobs, zero_stage=stage))
            for batch in next(source):
                engine.backward(scaled(engine.module, batch, step), share=batch.share)
            engine.step()
        report[f"stage {stage}"] = ranks.furthest(
            engine.full_parameters(), dict(module.named_parameters())
        )
    return report


def moved_on(engine, knobs):
    """Return a new engine with the state of another."""
    new = Engine(ranks.Network(), knobs)
    for kind, tensors in ranks.all_state(engine).items():
        new.restore(kind, tensors)
    new.restore_counters(engine.counters())
    return new


def fine_steps(folder):
    """Steps far below what bf16 tells apart, and what the masters make of them."""
    # Steps of 1e-6 where neighbouring bf16 numbers are 2e-4 to 1e-3 apart.
    knobs = {"learning_rate": 1e-6, "schedule": "constant", "warmup_steps": 0, "weight_decay": 0.0}
    start = dict(ranks.Network().named_parameters())
    report = {}
    for name, more in {
        "fp32": {}, **{f"bf16 {stage}": {"precision": "bf16", "zero_stage": stage}
                       for stage in (1, 2, 3)},
    }.items():  # fmt: skip
        engine = Engine(ranks.Network(), ranks.config(**knobs, **more))
        source = ranks.batches(ranks.config()).steps()
        for _ in range(ranks.STEPS):
            ranks.Regression(engine).update(next(source), At(0, 0))
        whole = engine.full_parameters()
        matrix = "blocks.0.linear.weight"
        moved = (whole[matrix] - start[matrix].detach()).abs()
        with engine._masters.gathered([engine._trained[matrix]]):
            computing = engine._trained[matrix].detach().float().cpu()
        report[name] = {
            "moved": moved.median().item(),
            "rounded": torch.equal(computing, whole[matrix].to(engine.dtype).float()),
            "seen": (computing != start[matrix].to(engine.dtype)).float().mean().item(),
        }
    return report


def wide(folder):
    """In which types a transformer computes, and its modulation against that of fp32."""
    report, seen = {}, {}
    for name in ("fp32", "autocast", "bf16"):
        engine = Engine(network(), ranks.config(precision=name, zero_stage=1))
        module = engine.module
        module.condition_embedder.register_forward_hook(
            lambda _, __, out, name=name: seen.update({name: out[1].detach()})
        )
        kinds = {}
        for part, layer in {"query": module.blocks[0].attn1.to_q, "norm": module.norm_out}.items():
            layer.register_forward_hook(
                lambda _, __, out, part=part, kinds=kinds: kinds.update({part: str(out.dtype)})
            )
        x, text, mask, t = (sample(1)[i] for i in (0, 2, 3, 4))
        x, text = (value.to(engine.dtype) for value in (x, text))
        module(x, t, text, text_mask=mask)
        report[name] = kinds | {
            "modulation": str(seen[name].dtype),
            "same": torch.equal(seen[name], seen["fp32"]),
            "table": str(module.scale_shift_table.dtype),
        }
    return report


def given_back(folder):
    """A block that computes with the average and raises: weights, masters and average stay."""
    report = {}
    for name in ("stage 0", "stage 1", "stage 2", "stage 3", "stage 3 bf16"):
        engine = Engine(ranks.Network(), ranks.config(**ranks.SETTINGS[name]))
        source = ranks.batches(ranks.config()).steps()
        for _ in range(3):
            ranks.Regression(engine).update(next(source), At(0, 0))
        x = torch.ones(2, 5, dtype=engine.dtype)
        before, state = engine.module(x).detach(), ranks.all_state(engine)
        try:
            with engine.computing_with("ema"):
                inside = engine.module(x).detach()
                raise ValueError("no sample")
        except ValueError as error:
            said = str(error)
        report[name] = {
            "said": said,
            "averaged": not torch.equal(inside, before),
            "back": torch.equal(engine.module(x).detach(), before),
            "same": ranks.same(state, ranks.all_state(engine)),
        }
    return report


class Waits(TorchDispatchMode):
    """Counts how often a number is fetched from the device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def imported(folder):
    """What a training process has imported by its first step of what it never uses."""
    engine = Engine(ranks.Network(), ranks.config())
    ranks.Regression(engine).update(next(ranks.batches(ranks.config()).steps()), At(0, 0))
    return [name for name in ("mlflow", "sklearn", *COMPILER) if name in sys.modules]


def waits(folder):
    """How much more often a step waits for the device that measures every block."""
    report = {}
    for stage in range(4):
        engine = Engine(ranks.Network(), ranks.config(zero_stage=stage))
        source, counts = ranks.batches(ranks.config()).steps(), []
        for by_block in (False, False, True):
            for batch in next(source):
                engine.backward(ranks.loss_of(engine.module, batch), share=batch.share)
            with Waits() as seen:
                engine.step(by_block=by_block)
            counts.append(seen.count)
        report[f"stage {stage}"] = counts[2] - counts[1]
    return report


if __name__ == "__main__":
    ranks.main(Path(sys.argv[1]), sys.argv[2:], globals())
