"""Every setting of the engine for one run: its memory, its seconds, and which to take.

A step is its matrix products at the given utilisation, then what devices wait for: gradients and
weights on the wires, optimiser state in the machine's memory. Nothing of that is hidden behind
arithmetic, so that the truth lies between `compute_s` and `step_s`.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jobs.plan_config import Kind
from jobs.plan_subject import Shape, Subject
from video_platform.training.config import TrainingConfig
from video_platform.training.memory import RankMemory, rank_memory

AS_GOOD = 1.02
"""Of settings whose steps take up to so many times as long, the plainest is taken."""

RECOMPUTED: dict[str, dict[str, Any]] = {
    "nothing": {"activation_checkpointing": False},
    "all blocks": {
        "activation_checkpointing": True, "checkpoint_every_block": 1, "checkpoint_keeps": "inputs",
    },
    "all but products": {
        "activation_checkpointing": True, "checkpoint_every_block": 1,
        "checkpoint_keeps": "products",
    },
    "every second block": {
        "activation_checkpointing": True, "checkpoint_every_block": 2, "checkpoint_keeps": "inputs",
    },
}  # fmt: skip
"""What the backward pass computes again, and the knobs for it."""

OFFLOADED: dict[str, dict[str, Any]] = {
    "nothing": {"offload_optimizer": "none", "offload_parameters": "none"},
    "optimiser": {"offload_optimizer": "cpu", "offload_parameters": "none"},
    "weights too": {"offload_optimizer": "cpu", "offload_parameters": "cpu"},
}
"""What lies in the machine's memory, and the knobs for it."""

SEQUENCES = (1, 2, 4, 8)
"""How many devices share a sample."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to trade time for memory."""

    offloaded: str = "nothing"
    sequence_parallel: int = 1
    recomputed: str = "nothing"
    zero_stage: int = 0

    @property
    def knobs(self) -> dict[str, Any]:
        """What a recipe says for it."""
        return {
            "zero_stage": self.zero_stage,
            **RECOMPUTED[self.recomputed],
            **OFFLOADED[self.offloaded],
            "sequence_parallel": self.sequence_parallel,
        }

    @property
    def plainness(self) -> tuple[int, ...]:
        """Smaller is plainer."""
        return (
            [*OFFLOADED].index(self.offloaded),
            self.sequence_parallel,
            [*RECOMPUTED].index(self.recomputed),
            self.zero_stage,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """How the batches of one shape are shared out."""

    shape: Shape
    batch: int
    """Samples of a step."""
    micro_batches: int
    """Passes of a rank in a step."""
    samples: int
    """Samples in each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one setting needs."""

    setting: Setting
    training: TrainingConfig
    """All knobs."""
    memory: RankMemory
    """Of one rank, for the shape that needs most."""
    fits: bool
    """Whether device and machine have room for it."""
    compute_s: float
    """Matrix products of a step, what is recomputed among them."""
    waiting_s: float
    """Wires and optimiser, one after the other."""

    @property
    def step_s(self) -> float:
        """Seconds of a step, on average over the shapes."""
        return self.compute_s + self.waiting_s


def estimates(subject: Subject, kind: Kind, *, gpus: int, utilisation: float) -> list[Estimate]:
    """Return what every setting needs."""
    return [
        estimate(subject, setting, training, Fleet(kind, gpus, utilisation))
        for setting, training in settings(subject, gpus)
    ]


def settings(subject: Subject, gpus: int) -> Iterator[tuple[Setting, TrainingConfig]]:
    """Yield every setting that the engine and the network allow, and a run's knobs with it."""
    for parts in SEQUENCES:
        if subject.heads % parts or gpus % parts:
            continue
        for offloaded, recomputed, stage in itertools.product(OFFLOADED, RECOMPUTED, range(4)):
            setting = Setting(
                offloaded=offloaded,
                recomputed=recomputed,
                zero_stage=stage,
                sequence_parallel=parts,
            )
            with contextlib.suppress(ValueError):  # the engine refuses some combinations
                yield setting, dataclasses.replace(subject.training, **setting.knobs)


def choose(found: Sequence[Estimate]) -> Estimate | None:
    """Return the fastest setting that fits, or a plainer one that is as good; None if none fits."""
    fitting = [each for each in found if each.fits]
    if not fitting:
        return None
    fastest = min(each.step_s for each in fitting)
    good = [each for each in fitting if each.step_s <= AS_GOOD * fastest]
    return min(good, key=lambda each: each.setting.plainness)


def worthwhile(found: Sequence[Estimate]) -> list[Estimate]:
    """Return the settings than which none is faster and needs less, the fastest first."""
    order = sorted(found, key=lambda e: (not e.fits, e.step_s, e.setting.plainness))
    kept: list[Estimate] = []
    for each in order:
        if all(each.memory.device.total < other.memory.device.total for other in kept):
            kept.append(each)
    return kept


class Fleet(NamedTuple):
    """Some devices of a kind."""

    kind: Kind
    gpus: int
    utilisation: float


def estimate(
    subject: Subject, setting: Setting, training: TrainingConfig, fleet: Fleet
) -> Estimate:
    """Forecast one setting."""
    kind = fleet.kind
    spread = [(load, batches_of(load)) for load in loads(subject, training, fleet.gpus)]
    memory = max(
        (
            rank_memory(
                training,
                subject.held(load.shape, training, load.samples),
                world=fleet.gpus,
                micro_batches=load.micro_batches,
            )
            for load, _ in spread
        ),
        key=lambda needs: needs.device.total,
    )
    whole = sum(count for _, count in spread)
    peak = 1e12 * kind.peak_tflops(training.precision)
    compute = waiting = 0.0
    for load, count in spread:
        flops = _flops_of_rank(subject, setting, load)
        compute += count / whole * flops / (peak * fleet.utilisation)
        waiting += count / whole * waiting_s(subject, training, load, fleet)
    return Estimate(
        setting=setting,
        training=training,
        memory=memory,
        fits=has_room(memory, kind),
        compute_s=compute,
        waiting_s=waiting,
    )


def loads(subject: Subject, training: TrainingConfig, gpus: int) -> list[Load]:
    """Return how the batches of each shape are shared out."""
    found = []
    for shape in subject.shapes:
        batch, micro = training.sizes(shape.positions, draws=training.draws)
        batch *= training.draws
        of_rank = -(-batch * training.sequence_parallel // gpus)
        passes = -(-of_rank // micro)
        found.append(
            Load(shape=shape, batch=batch, micro_batches=passes, samples=-(-of_rank // passes))
        )
    return found


def batches_of(load: Load) -> float:
    """Return how many steps an epoch spends on a shape, relative to other shapes."""
    return load.shape.clips / load.batch


def has_room(memory: RankMemory, kind: Kind) -> bool:
    """Say whether a rank fits a device and its share of the machine."""
    room = 1e9 * (kind.memory_gb * (1 - kind.spare) - kind.reserved_gb)
    if not kind.host_memory_gb:  # device and machine have one memory
        return memory.total <= room
    return memory.device.total <= room and memory.host.total <= 1e9 * kind.host_memory_gb


def _flops_of_rank(subject: Subject, setting: Setting, load: Load) -> float:
    """Return the operations of the rank that has most to do."""
    work = subject.work(load.shape)
    again = {"all blocks": 1.0, "every second block": 0.5}.get(setting.recomputed, 0.0)
    flops = work.total + again * work.recomputed
    return load.micro_batches * load.samples * flops / setting.sequence_parallel


def waiting_s(subject: Subject, training: TrainingConfig, load: Load, fleet: Fleet) -> float:
    """Return the seconds of a step in which a device does no matrix products."""
    kind, gpus = fleet.kind, fleet.gpus
    element = 2 if training.precision == "bf16" else 4
    stage, passes = training.zero_stage, load.micro_batches
    whole = element * subject.trained
    wire = kind.link_gb_per_s if gpus <= kind.devices else kind.network_gb_per_s
    reduced = 2 * whole * (passes if stage >= 2 else 1)  # an all-reduce sends everything twice
    gathered = (0, whole, whole, 2 * whole * passes)[stage]
    seconds = (gpus - 1) / gpus * (reduced + gathered) / (1e9 * wire)
    seconds += _exchange_s(subject, training, load, kind)
    part = subject.trained / (gpus if stage else 1)
    state = 28 * part  # weights, gradient, two moments and an average are read, all but one written
    if training.offload_parameters == "cpu":
        seconds += 2 * passes * element * part / (1e9 * kind.host_gb_per_s)
    if training.offload_optimizer == "cpu":
        return seconds + (2 * element * part + state) / (1e9 * kind.host_gb_per_s)
    return seconds + state / (1e9 * kind.memory_gb_per_s)


def _exchange_s(subject: Subject, training: TrainingConfig, load: Load, kind: Kind) -> float:
    """Return the seconds in which devices that share a sample exchange tokens for heads."""
    parts = training.sequence_parallel
    element = 4 if training.precision == "fp32" else 2
    mine = load.samples * subject.work(load.shape).sequence / parts * subject.width * element
    wire = kind.link_gb_per_s if parts <= kind.devices else kind.network_gb_per_s
    # Queries, keys, values and the answer, forward and backward.
    sent = 2 * 4 * mine * (parts - 1) / parts * subject.layers * load.micro_batches
    return sent / (1e9 * wire)
