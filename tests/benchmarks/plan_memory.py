"""Forecast of a rank's memory against what training takes, one table.

    python -m tests.benchmarks.plan_memory                   # one rank
    python -m tests.benchmarks.plan_memory --ranks 2
    python -m tests.benchmarks.plan_memory --only joint      # settings with these words

bfloat16 is slow on a processor without units for it.

Each setting trains a transformer for two steps in processes of its own, under the engine that
every job uses. `counted` is the most that PyTorch's allocator had given out at any moment, to the
byte; `resident` is by how much the process grew, which counts pages that were written to, and adds
what kernels and libraries take.
"""

import argparse
import dataclasses
import gc
import itertools
import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from jobs.fine_tuning import choose_trained
from jobs.plan_activations import held_by_transformer
from jobs.plan_network import Network
from jobs.pretrain_config import LoraConfig, Trained
from video_models.diffusion.guidance import conditioned
from video_models.objectives.denoising import flow_matching_loss
from video_models.text.batch import TextBatch
from video_models.transformer.config import TransformerConfig
from video_models.transformer.family import build_transformer
from video_models.transformer.joint_config import AnyTransformerConfig, JointTransformerConfig
from video_platform.training.config import TrainingConfig
from video_platform.training.engine import Engine
from video_platform.training.memory import rank_memory
from video_platform.training.sequence_parallel import open_sequence
from video_platform.training.zero import import_deepspeed, open_process_group

MIB = 1 << 20
SMALL = TransformerConfig(
    latent_channels=8, text_dim=64, num_heads=8, head_dim=32, ffn_dim=1024, num_layers=6
)
LARGE = dataclasses.replace(SMALL, num_heads=8, head_dim=64, ffn_dim=2048, num_layers=4)
TINY = dataclasses.replace(SMALL, num_heads=4, ffn_dim=512, num_layers=4)
WIDE = dataclasses.replace(SMALL, num_layers=3)
JOINT = JointTransformerConfig(
    latent_channels=8, text_dim=64, num_heads=4, head_dim=32, ffn_dim=512, num_layers=3,
    num_single_layers=9, num_refiner_layers=1,
)  # fmt: skip
NAMES = {SMALL: "small", LARGE: "large", TINY: "tiny", WIDE: "wide", JOINT: "joint"}
SIZE, CLIPS, WORDS, STEPS = (4, 16, 16), 2, 32, 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """One setting."""

    config: AnyTransformerConfig = SMALL
    train: Trained = "all"
    micro_batches: int = 2
    ranks: int = 1
    knobs: tuple[tuple[str, Any], ...] = ()
    """Of the engine."""

    @property
    def training(self) -> TrainingConfig:
        """All knobs of the engine."""
        knobs = dict(self.knobs)
        return TrainingConfig(
            steps=STEPS,
            batch_size=CLIPS * self.micro_batches * self.ranks,
            micro_batch_size=CLIPS,
            **knobs,
        )

    def __str__(self) -> str:
        names = [NAMES[self.config]] + (["adapters"] if self.train != "all" else [])
        values = (f"{knob}={value}" for knob, value in self.knobs)
        return ", ".join((*names, f"{self.micro_batches} micro", *values))


def case(
    *,
    config: AnyTransformerConfig = SMALL,
    train: Trained = "all",
    micro: int = 2,
    ranks: int = 1,
    **knobs: Any,
) -> Case:
    """Return a setting."""
    given = tuple(knobs.items())
    return Case(config=config, train=train, micro_batches=micro, ranks=ranks, knobs=given)


@dataclass(frozen=True)
class Measured:
    """Bytes of one process."""

    counted: int
    resident: int


def cases(ranks: int) -> list[Case]:
    """Return the settings of the table."""
    bf16, again = {"precision": "bf16", "ranks": ranks}, {"activation_checkpointing": True}
    offload = {"offload_optimizer": "cpu"}
    found = [
        case(ranks=ranks, zero_stage=0),
        case(ranks=ranks),
        case(**bf16),
        case(**bf16, zero_stage=2),
        case(**bf16, zero_stage=3),
        case(ranks=ranks, precision="autocast"),
        case(ranks=ranks, **again),
        case(**bf16, **again, micro=1),
        case(**bf16, **again, checkpoint_keeps="products"),
        case(**bf16, **again, checkpoint_every_block=2),
        case(**bf16, **offload),
        case(**bf16, **offload, zero_stage=2),
        case(**bf16, **offload, zero_stage=3),
        case(**bf16, **offload, zero_stage=3, offload_parameters="cpu"),
        case(ranks=ranks, optimizer="muon"),
        case(ranks=ranks, optimizer="muon", **again),
        case(ranks=ranks, optimizer="muon", **again, zero_stage=0),
        case(ranks=ranks, optimizer="muon", **again, zero_stage=3),
        case(ranks=ranks, optimizer="muon", **again, config=JOINT),
        case(ranks=ranks, optimizer="muon", zero_stage=2, config=TINY),
        case(**bf16, optimizer="muon"),
        case(**bf16, optimizer="radam"),
        case(**bf16, more_ema_decays=(0.9,), ema_widths=(0.1,)),
        case(ranks=ranks, config=LARGE),
        case(**bf16, config=LARGE, micro=1),
        case(**bf16, **again, config=LARGE),
        case(ranks=ranks, config=TINY, train=LoraConfig(rank=4)),
        case(ranks=ranks, config=JOINT),
        case(ranks=ranks, **again, config=JOINT, micro=1),
        case(ranks=ranks, **again, checkpoint_keeps="products", config=JOINT),
        case(**bf16, **again, checkpoint_every_block=2, config=JOINT),
        case(ranks=ranks, config=JOINT, train=LoraConfig(rank=4)),
    ]
    if ranks > 1:
        found += [
            case(**bf16, sequence_parallel=ranks),
            case(**bf16, **again, sequence_parallel=ranks, micro=1),
            case(ranks=ranks, sequence_parallel=ranks, config=JOINT),
        ]
    return found


def forecast(case: Case) -> float:
    """Return the bytes that the plan expects of a rank; on a CPU device and host are one."""
    network = Network(config=case.config, text_tokens=(WORDS,))
    held = held_by_transformer(network, SIZE, case.training, batch=CLIPS, train=case.train)
    given = {"world": case.ranks, "micro_batches": case.micro_batches}
    return rank_memory(case.training, held, **given).total


def measure(case: Case) -> Measured:
    """Train twice in fresh processes and return the most that rank 0 took."""
    [counted], [resident] = in_processes(count, [case]), in_processes(reside, [case])
    return Measured(counted=counted, resident=resident)


def in_processes(function: Callable[[Case], int], cases: Sequence[Case]) -> list[int]:
    """Call a function with each case on every rank, and return what it gave rank 0."""
    ranks = cases[0].ranks
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What is freed goes back to the system at once, so that the resident set is what is held.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    try:
        with context.Pool(ranks) as pool:
            given = [(function, cases, rank, port) for rank in range(ranks)]
            return pool.starmap(_on_rank, given, chunksize=1)[0]
    finally:
        del os.environ["MALLOC_MMAP_THRESHOLD_"]


def _on_rank(
    function: Callable[[Case], int], cases: Sequence[Case], rank: int, port: int
) -> list[int]:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(cases[0].ranks),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    open_process_group()
    import_deepspeed()
    results = []
    for case in cases:
        _steps(dataclasses.replace(case, config=_least(case)))  # loads what is loaded at first
        gc.collect()
        results.append(function(case))
        gc.collect()
    return results


def _least(case: Case) -> AnyTransformerConfig:
    """Return the size of a network that does what a case's does, and takes next to nothing."""
    sizes = {"num_heads": case.training.sequence_parallel, "head_dim": 8, "ffn_dim": 8}
    blocks = {"num_layers": 1}
    if isinstance(case.config, JointTransformerConfig):
        blocks["num_single_layers"] = 1
    return dataclasses.replace(case.config, **sizes, **blocks)


def count(case: Case) -> int:
    """Return the most bytes that the allocator had given out."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        _steps(case)
    events = [
        (event.start_ns(), event.nbytes())
        for event in watched.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    return max(itertools.accumulate(change for _, change in sorted(events)))


def reside(case: Case) -> int:
    """Return the bytes by which the process grew at the worst moment."""
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    _steps(case)
    return (status("VmHWM") - before) * 1024


def _steps(case: Case) -> None:
    model, parts = build_transformer(case.config), case.training.sequence_parallel
    choose_trained(model, case.train)
    engine = Engine(model, case.training)
    if parts > 1:
        model.placement = open_sequence(parts)
    for _ in range(STEPS):
        for _ in range(case.micro_batches):
            engine.backward(_loss(engine, case), share=1 / (case.micro_batches * case.ranks))
        engine.step()


def _loss(engine: Engine, case: Case) -> torch.Tensor:
    shape = CLIPS, case.config.latent_channels, *SIZE
    x0, noise = (torch.randn(shape).to(engine.dtype) for _ in range(2))
    text = TextBatch(
        embeddings=torch.randn(CLIPS, WORDS, case.config.text_dim).to(engine.dtype),
        mask=torch.ones(CLIPS, WORDS, dtype=torch.bool),
    )
    network = conditioned(engine.module, text)
    return flow_matching_loss(
        lambda x, t: network(x.to(engine.dtype), t), x0, noise=noise, t=torch.rand(CLIPS)
    ).mean()


def status(field: str) -> int:
    """Return a figure of this process in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise LookupError(field)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--only", default="", help="settings whose names have these words")
    options = parser.parse_args()
    print(f"{'':44} forecast  counted    ratio  resident    ratio")
    chosen = (case for case in cases(options.ranks) if options.only in str(case))
    for case in chosen:
        expected, found = forecast(case), measure(case)
        print(
            f"{case!s:44} {expected / MIB:8.1f} {found.counted / MIB:8.1f} "
            f"{expected / found.counted:8.3f} {found.resident / MIB:9.1f} "
            f"{expected / found.resident:8.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
