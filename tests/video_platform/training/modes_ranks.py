"""What the tests of the engine's modes run on two ranks; launched like `ranks.py`.

A small transformer learns the same clips in every mode, beside a plain PyTorch loop.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tests.video_platform.training import ranks
from tests.video_platform.training.sequence_ranks import loss_of, network
from video_platform.training.blocks import block_of
from video_platform.training.config import TrainingConfig
from video_platform.training.engine import Engine

STEPS, FEW, CLIPS = 20, 5, 4
"""Each step learns four batches of `sample`, of two clips each."""
STAGES = {
    "stage 1": {"zero_stage": 1},
    "stage 2": {"zero_stage": 2},
    "stage 3": {"zero_stage": 3},
}
MODES = {
    "stage 0": {"zero_stage": 0},
    "all at once": {"zero_stage": 1},
    "recomputed": {"zero_stage": 1, "activation_checkpointing": True},
    "every second recomputed": {
        "zero_stage": 2, "activation_checkpointing": True, "checkpoint_every_block": 2,
    },
    "products kept": {
        "zero_stage": 3, "activation_checkpointing": True, "checkpoint_keeps": "products",
    },
    "state offloaded": {"zero_stage": 2, "offload_optimizer": "cpu"},
    "weights offloaded": {
        "zero_stage": 3, "offload_parameters": "cpu", "offload_optimizer": "cpu",
    },
}  # fmt: skip
BF16 = {
    "bf16": {"zero_stage": 2, "precision": "bf16"},
    "autocast 0": {"zero_stage": 0, "precision": "autocast"},
    "autocast 3": {"zero_stage": 3, "precision": "autocast"},
}


def config(**knobs):
    base = {
        "steps": STEPS, "batch_size": 8, "micro_batch_size": 2, "learning_rate": 2e-3,
        "weight_decay": 0.1, "clip_norm": 1.0, "ema_decay": None, "warmup_steps": 3,
    }  # fmt: skip
    return TrainingConfig(**(base | knobs))


def plain(knobs):
    """Train with PyTorch alone; return the module and, of the first step, the norms by block."""
    module = network()
    groups = [
        {"params": [p for p in module.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in module.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.RAdam if knobs.optimizer == "radam" else torch.optim.AdamW
    more = {"decoupled_weight_decay": True} if knobs.optimizer == "radam" else {}
    optimizer = kind(groups, betas=knobs.betas, eps=knobs.epsilon, **more)
    norms, losses = {}, []
    for step in range(knobs.steps):
        for group in optimizer.param_groups:
            group["lr"] = ranks.learning_rate(knobs, step)
        optimizer.zero_grad()
        loss = sum(loss_of(module, CLIPS * step + i) for i in range(CLIPS)) / CLIPS
        loss.backward()
        if step == 0:
            for name, p in module.named_parameters():
                block = block_of(name, module.block_names())
                norms[block] = norms.get(block, 0.0) + p.grad.square().sum().item()
        torch.nn.utils.clip_grad_norm_(module.parameters(), knobs.clip_norm)
        optimizer.step()
        losses.append(loss.item())
    return module, {name: value**0.5 for name, value in norms.items()}, losses


def trained(knobs, *, at_once=1):
    """Train in the engine, each rank on half of each step, in pieces of `at_once` batches."""
    engine, rank = Engine(network(), knobs), dist.get_rank()
    mine = range(2 * rank, 2 * rank + 2)
    norms, losses = {}, []
    for step in range(knobs.steps):
        total = 0.0
        for start in mine[::at_once]:
            batch = range(start, start + at_once)
            loss = sum(loss_of(engine.module, CLIPS * step + i) for i in batch) / at_once
            engine.backward(loss, share=at_once / CLIPS)
            total += loss.item() * at_once / CLIPS
        result = engine.step(by_block=step == 0)
        norms = norms or result.block_norms
        total = torch.tensor(total)
        dist.all_reduce(total)
        losses.append(total.item())
    return engine, norms, losses


def gap(state, module):
    return max((state[n] - p.detach()).abs().max().item() for n, p in module.named_parameters())


def exact(folder):
    """Every stage for long, every mode for some steps, and both ways to accumulate; in fp32."""
    report = {}
    for steps, modes in ((FEW, MODES), (STEPS, STAGES)):
        module, norms, losses = plain(config(steps=steps))
        for name, knobs in modes.items():
            at_once = 2 if name == "all at once" else 1
            engine, found, logged = trained(config(**knobs, steps=steps), at_once=at_once)
            report[name] = {
                "gap": gap(engine.full_parameters(), module),
                "norms": found,
                "losses": max(abs(a - b) for a, b in zip(losses, logged, strict=True)),
            }
    report |= {"moved": gap(dict(network().named_parameters()), module), "plain norms": norms}
    module, *_ = plain(config(optimizer="radam", steps=FEW))
    engine, *_ = trained(config(optimizer="radam", zero_stage=2, steps=FEW))
    report["radam"] = {"gap": gap(engine.full_parameters(), module)}
    return report


def mixed(folder):
    """bf16 arithmetic on fp32 masters: what is learned, and in which type it is kept."""
    module, _, losses = plain(config(steps=2 * FEW))
    report = {"losses": losses}
    for name, knobs in BF16.items():
        engine, _, logged = trained(config(**knobs, steps=2 * FEW))
        kept = engine.full_parameters()
        report[name] = {
            "losses": logged,
            "gap": gap(kept, module),
            # A master that is no bf16 number has kept what bf16 would have lost.
            "fine": max((v - v.bfloat16().float()).abs().max().item() for v in kept.values()),
            "types": sorted({str(p.dtype) for p in engine.module.parameters()}),
        }
    return report


def averages(folder):
    """Several averages at once, each against its recurrence over plain weights."""
    from video_platform.training.ema import power_decay_at

    knobs = config(steps=8, ema_decay=0.9, more_ema_decays=(0.5,), ema_widths=(0.1,), zero_stage=2)
    engine = Engine(network(), knobs)
    expected = {"ema-0.5": None, "ema-width-0.1": None}
    decays = {
        "ema-0.5": lambda step: min(0.5, (1 + step) / (10 + step)),
        "ema-width-0.1": lambda step: power_decay_at(0.1, step),
    }
    start = {n: p.detach().clone() for n, p in network().named_parameters()}
    for step in range(knobs.steps):
        engine.backward(loss_of(engine.module, step), share=0.5)
        engine.step()
        now = engine.full_parameters()
        for name, decay in decays.items():
            before, weight = expected[name] or start, 1 - decay(step)
            expected[name] = {n: before[n] + weight * (now[n] - before[n]) for n in start}
    found = {name: engine.ema_parameters(name) for name in expected}
    return {
        "kinds": engine.kinds,
        "gaps": {
            n: max((found[n][k] - v).abs().max().item() for k, v in expected[n].items())
            for n in found
        },
        "apart": max(
            (found["ema-0.5"][k] - found["ema-width-0.1"][k]).abs().max().item() for k in start
        ),
    }


def compiled(folder):
    """Compiled blocks, recomputed and not."""
    module, *_ = plain(config(steps=3))
    report = {}
    for name, knobs in {"plain": {}, "recomputed": {"activation_checkpointing": True}}.items():
        engine, *_ = trained(config(steps=3, compile_blocks=True, zero_stage=1, **knobs))
        report[name] = gap(engine.full_parameters(), module)
    return report


if __name__ == "__main__":
    ranks.main(Path(sys.argv[1]), sys.argv[2:], globals())
