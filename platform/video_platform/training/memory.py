"""What training holds in memory on each rank, by part, under every setting of the engine.

    needs = rank_memory(config, Held(trained=10**9, activations=2**30), world=8, micro_batches=2)
    needs.device.total, needs.host.total

DeepSpeed's own tables count weights, gradients and optimiser state; here are also the buffers that
it reduces and gathers in, what it gathers ahead at stage 3, and the copies of its update, as
measured (`python -m tests.benchmarks.plan_memory`). N parameters in a type of e bytes on W ranks:

    stage           0      1        2        3
    weights         e N    e N      e N      e N / W, and what is gathered of it
    masters                4 N / W  4 N / W  4 N / W
    moments         8 N    8 N / W  8 N / W  8 N / W
    each average    4 N    4 N / W  4 N / W  4 N / W
    gradients       e N    e N      e N / W  e N / W
"""

import dataclasses
import math
from collections.abc import Mapping

from video_platform.training.config import TrainingConfig
from video_platform.training.ema import decays_of
from video_platform.training.optimizers import ELEMENTS_AT_ONCE
from video_platform.training.zero import LARGEST_BUCKET

LIVE_PARAMETERS = 1_000_000_000
"""Parameters that stage 3 keeps whole before it lets go of some (`stage3_max_live_parameters`)."""
ALL_REDUCE_ELEMENTS = 500_000_000
"""Elements that stage 0 lays side by side to add them up over the ranks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Held:
    """A trained network, as far as its memory goes."""

    trained: int
    """Elements of the parameters that are trained."""
    frozen: int = 0
    """Elements of its other parameters, and of other networks that are held beside it."""
    activations: int = 0
    """Bytes of the inputs and of all that the backward pass of a micro-batch needs, at the worst
    moment, without parameters and gradients; see `peak.backward_peak`."""
    last_activations: int = 0
    """Bytes that are left of that when the last block, the first of the network, goes backward."""
    largest: int = 0
    """Elements of the largest parameter."""
    matrices: Mapping[tuple[int, int], int] = dataclasses.field(default_factory=dict)
    """How many matrices of each shape the blocks have that are trained; see `block_matrices`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """Bytes by what they are."""

    weights: float = 0
    masters: float = 0
    moments: float = 0
    averages: float = 0
    gradients: float = 0
    activations: float = 0
    buckets: float = 0
    """Buffers in which gradients are reduced and weights gathered."""
    workspace: float = 0
    """Copies that the update makes."""

    @property
    def total(self) -> float:
        """All parts together."""
        return float(sum(dataclasses.astuple(self)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """What one rank holds at one moment of a step."""

    device: Parts
    """On the device that computes."""
    host: Parts = Parts()
    """In the machine's memory, for this rank."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankMemory:
    """What one rank holds at the two moments at which it may need most."""

    backward: Moment
    """While gradients are computed."""
    update: Moment
    """While the weights are changed."""

    @property
    def moments(self) -> tuple[Moment, Moment]:
        """Both moments."""
        return self.backward, self.update

    @property
    def device(self) -> Parts:
        """What the device holds at its worst moment."""
        return max((moment.device for moment in self.moments), key=lambda parts: parts.total)

    @property
    def host(self) -> Parts:
        """What the machine holds at its worst moment."""
        return max((moment.host for moment in self.moments), key=lambda parts: parts.total)

    @property
    def total(self) -> float:
        """Bytes at the worst moment where device and machine have one memory, as on a CPU."""
        return max(moment.device.total + moment.host.total for moment in self.moments)


def rank_memory(
    config: TrainingConfig, held: Held, *, world: int, micro_batches: int
) -> RankMemory:
    """Forecast what a rank needs.

    Args:
        config: of the run.
        held: the network.
        world: ranks that share the optimiser's state.
        micro_batches: backward passes of a rank between two updates.
    """
    engine = _Engine(config, held, world)
    host = engine.host() if config.offload_optimizer == "cpu" else Parts()
    backward = engine.backward(first_only=micro_batches == 1)
    return RankMemory(
        backward=Moment(device=backward, host=dataclasses.replace(host, workspace=0)),
        update=Moment(device=engine.update(), host=host),
    )


class _Engine:
    """The arithmetic of one setting."""

    def __init__(self, config: TrainingConfig, held: Held, world: int) -> None:
        self._stage, self._held, self._world = config.zero_stage, held, world
        self._element = 2 if config.precision == "bf16" else 4
        self._offload = config.offload_optimizer == "cpu"
        self._averages = len(decays_of(config))
        self._offload_weights = config.offload_parameters == "cpu"
        self._muon = config.optimizer == "muon"
        self._part = held.trained / (world if self._stage else 1)
        """Elements whose optimiser state a rank has."""

    def standing(self) -> Parts:
        """Return what is there from the first step to the last."""
        whole, weights = self._whole(), self._shard()
        if self._stage == 3 and (self._world > 1 or self._offload_weights):
            gathered = min(self._element * LIVE_PARAMETERS, whole)
            weights = gathered + (0 if self._offload_weights else weights)
        return Parts(
            weights=weights,
            masters=4 * self._part if self._stage else 0,
            moments=8 * self._part,
            averages=4 * self._part * self._averages,
        )

    def backward(self, *, first_only: bool) -> Parts:
        """Return what the device holds while gradients are computed.

        A first micro-batch makes room for gradients as it lets activations go.
        """
        full = Parts(
            gradients=self._gradients(),
            activations=self._held.activations,
            buckets=self._buckets(),
        )
        if first_only and self._stage < 3:
            start = dataclasses.replace(full, gradients=0)
            end = dataclasses.replace(full, activations=self._held.last_activations)
            full = max(start, end, key=lambda parts: parts.total)
        return self._on_device(full)

    def update(self) -> Parts:
        """Return what the device holds while the weights are changed."""
        element, part = self._element, self._part
        start = Parts(gradients=self._gradients(), buckets=self._buckets())
        if self._stage == 0:
            flat = 4.0 * min(self._held.trained, ALL_REDUCE_ELEMENTS)
            flat = max(flat - self._turning(), 0)  # gone before anything is turned
            moved = Parts(gradients=4.0 * self._held.trained, workspace=flat)
        elif self._offload:
            moved = start
        elif self._stage == 3:
            wide = 4 * min(part, LIVE_PARAMETERS)
            moved = Parts(gradients=element * part, buckets=self._buckets(), workspace=wide)
        else:
            if self._stage == 2:
                start = dataclasses.replace(start, buckets=0)
            wide = 4 * part if element == 2 else 0  # gradients in fp32
            moved = Parts(gradients=element * part, workspace=element * part + wide)
        moved = dataclasses.replace(moved, workspace=moved.workspace + self._turning())
        return self._on_device(max(start, moved, key=lambda parts: parts.total))

    def host(self) -> Parts:
        """Return what lies in the machine's memory where optimiser state is offloaded."""
        standing, gradients = self.standing(), 4 * self._part
        if self._stage > 1:
            gradients += self._element * self._part
        return Parts(
            weights=self._shard() if self._offload_weights else 0,
            masters=standing.masters,
            moments=standing.moments,
            averages=standing.averages,
            gradients=gradients,
            buckets=self._element * self._part if self._stage < 3 else 0,
            workspace=4 * self._part if self._stage == 2 else 0,
        )

    def _turning(self) -> float:
        """Return what Muon needs while it makes the largest of its batches orthogonal."""
        if not self._muon:
            return 0
        shares = self._world if self._stage in (1, 2) else 1
        split = self._stage == 3 and self._world > 1  # then the ranks hold parts of each
        return max(
            (
                _turned_bytes(shape, -(-count // shares)) + 4 * split * _at_once(shape, count)
                for shape, count in self._held.matrices.items()
            ),
            default=0,
        )

    def _whole(self) -> float:
        """Return the bytes of all weights."""
        return self._element * (self._held.trained + self._held.frozen)

    def _shard(self) -> float:
        """Return the bytes of the weights that a rank keeps."""
        return self._whole() / (self._world if self._stage == 3 else 1)

    def _gradients(self) -> float:
        if self._stage < 2:
            return self._element * self._held.trained
        return 0 if self._offload else self._element * self._part

    def _buckets(self) -> float:
        if not self._stage:
            return 0
        bucket = self._element * min(LARGEST_BUCKET, self._held.trained)
        if self._stage == 3 and self._world > 1:
            bucket *= 2  # one to reduce in, one to gather in
        if self._offload and self._stage < 3:
            bucket += 2 * self._element * self._held.largest
        return bucket

    def _on_device(self, moving: Parts) -> Parts:
        standing = self.standing()
        if self._offload:
            standing = Parts(weights=standing.weights)
        both = zip(dataclasses.astuple(standing), dataclasses.astuple(moving), strict=True)
        names = [field.name for field in dataclasses.fields(Parts)]
        return Parts(**dict(zip(names, map(sum, both), strict=True)))


def _at_once(shape: tuple[int, int], count: int) -> int:
    """Return the elements of the matrices of a shape that Muon turns together."""
    size = math.prod(shape)
    return size * min(count, max(1, ELEMENTS_AT_ONCE // size))


def _turned_bytes(shape: tuple[int, int], count: int) -> float:
    """Return what `orthogonalise` needs for a batch, in float32; a GPU needs about half.

    A matrix is held in its own form, scaled, multiplied by `a`, as what is added to that and as the
    sum; before that the first three, and its square in four forms.
    """
    square = min(shape) / max(shape)  # size of X X^T over that of X
    return 4 * max(5 + square, 3 + 4 * square) * _at_once(shape, count)
