"""Every setting of the engine for one run: its memory, its seconds, and which to take.

A step is its matrix products at the given utilisation, then what devices wait for: gradients and
weights on the wires, optimiser state in the machine's memory. Nothing of that is hidden behind
arithmetic, so that the truth lies between `compute_s` and `step_s`.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from jobs.plan_config import Kind
from jobs.plan_subject import Shape, Subject
from video_platform.training.config import TrainingConfig
from video_platform.training.memory import RankMemory, rank_memory

AS_GOOD = 1.02
"""Of settings whose steps take up to so many times as long, the plainest is taken."""

CHOICES: dict[str, tuple[Any, ...]] = {
    "offload_optimizer": ("none", "cpu"),
    "activation_checkpointing": (False, True),
    "zero_stage": (0, 1, 2, 3),
}
"""Knobs that trade time for memory, and their values from the plainest on."""


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

    training: TrainingConfig
    """The knobs."""
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

    @property
    def knobs(self) -> dict[str, Any]:
        """The values of the knobs that were tried."""
        return {name: getattr(self.training, name) for name in CHOICES}

    @property
    def plainness(self) -> tuple[int, ...]:
        """Smaller is plainer."""
        return tuple(values.index(self.knobs[name]) for name, values in CHOICES.items())


def estimates(subject: Subject, kind: Kind, *, gpus: int, utilisation: float) -> list[Estimate]:
    """Return what every setting needs, the plainest first."""
    return [
        estimate(subject, training, kind, gpus=gpus, utilisation=utilisation)
        for training in settings(subject.training)
    ]


def settings(training: TrainingConfig) -> Iterator[TrainingConfig]:
    """Yield a run's knobs with every combination of those that trade time for memory."""
    for values in itertools.product(*CHOICES.values()):
        try:
            yield dataclasses.replace(training, **dict(zip(CHOICES, values, strict=True)))
        except ValueError:  # the engine refuses this combination
            continue


def choose(found: Sequence[Estimate]) -> Estimate | None:
    """Return the fastest setting that fits, or a plainer one that is as good; None if none fits."""
    fitting = [each for each in found if each.fits]
    if not fitting:
        return None
    fastest = min(each.step_s for each in fitting)
    good = [each for each in fitting if each.step_s <= AS_GOOD * fastest]
    return min(good, key=lambda each: each.plainness)


def estimate(
    subject: Subject, training: TrainingConfig, kind: Kind, *, gpus: int, utilisation: float
) -> Estimate:
    """Forecast one setting."""
    spread = [(load, batches_of(load)) for load in loads(subject, training, gpus)]
    memory = max(
        (
            rank_memory(
                training,
                subject.held(load.shape, training, load.samples),
                world=gpus,
                micro_batches=load.micro_batches,
            )
            for load, _ in spread
        ),
        key=lambda needs: needs.device.total,
    )
    whole = sum(count for _, count in spread)
    peak = 1e12 * (kind.bf16_tflops if training.precision == "bf16" else kind.fp32_tflops)
    compute = waiting = 0.0
    for load, count in spread:
        compute += count / whole * _flops_of_rank(subject, training, load) / (peak * utilisation)
        waiting += count / whole * _waiting_s(subject, training, load, kind, gpus)
    return Estimate(
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
        of_rank = -(-batch // gpus)
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


def _flops_of_rank(subject: Subject, training: TrainingConfig, load: Load) -> float:
    """Return the operations of the rank that has most to do."""
    work = subject.work(load.shape)
    again = work.recomputed if training.activation_checkpointing else 0
    return load.micro_batches * load.samples * (work.total + again)


def _waiting_s(
    subject: Subject, training: TrainingConfig, load: Load, kind: Kind, gpus: int
) -> float:
    """Return the seconds of a step in which a device does no matrix products."""
    element = 2 if training.precision == "bf16" else 4
    whole = element * subject.trained
    stage, passes = training.zero_stage, load.micro_batches
    share = (gpus - 1) / gpus
    wire = kind.link_gb_per_s if gpus <= kind.devices else kind.network_gb_per_s
    reduced = 2 * whole * (passes if stage >= 2 else 1)  # an all-reduce sends everything twice
    gathered = (0, whole, whole, 2 * whole * passes)[stage]
    seconds = share * (reduced + gathered) / (wire * 1e9)
    part = subject.trained / (gpus if stage else 1)
    state = 28 * part  # weights, gradient, two moments and an average are read, all but one written
    if training.offload_optimizer == "cpu":
        seconds += (element + element) * part / (kind.host_gb_per_s * 1e9)
        return seconds + state / (kind.host_gb_per_s * 1e9)
    return seconds + state / (kind.memory_gb_per_s * 1e9)
