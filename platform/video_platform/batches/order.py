"""Which samples make up which step: pure functions of the seed, never of a rank or of history.

The unit of order is the global batch. All its samples come from one bucket, so that they share one
shape and cost the same, or from as many buckets as it has draws (`Merged`); it is split over ranks
and micro-batches afterwards (`split.py`). So the same samples meet the same step on one rank or
eight, and after a resume.

An epoch visits every sample. Where a bucket does not divide into whole batches its last batch is
filled up with samples that the epoch has shown already: nothing is dropped and no batch is ragged.
Nothing is listed: an order over any number of samples opens at once.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from video_platform.batches.permutation import Permutation
from video_platform.batches.places import Places, take


@dataclasses.dataclass(frozen=True, eq=False)
class Bucket:
    """Samples of one shape, and how many of them are trained on at once."""

    places: Places
    """Where they are in the dataset."""
    batch_size: int
    """Samples in a global batch."""
    micro_batch_size: int
    """Most samples that a worker sends through the network at once; decides nothing of the order.
    """
    tokens: int = 1
    """Positions that one sample has in the network."""
    work: float | None = None
    """What one sample takes, relative to those of other buckets; None is its tokens."""

    @property
    def cost(self) -> float:
        """What one sample takes, relative to those of other buckets."""
        return self.tokens if self.work is None else self.work

    @property
    def batches(self) -> int:
        """Global batches in which each sample is seen at least once."""
        return -(-len(self.places) // self.batch_size)


@dataclasses.dataclass(frozen=True)
class Draw:
    """Samples of one bucket that are drawn at once."""

    bucket: Bucket
    """Where they are from."""
    indices: tuple[int, ...]
    """Their indices in the dataset."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """The samples of a step, in the order of their slots."""

    draws: tuple[Draw, ...]
    """Those of the first draw have the first slots, and so on."""

    @property
    def indices(self) -> tuple[int, ...]:
        """Index in the dataset of the sample in each slot."""
        return tuple(index for draw in self.draws for index in draw.indices)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """Bucket of the sample in each slot."""
        return tuple(draw.bucket for draw in self.draws for _ in draw.indices)


class Ordered(Protocol):
    """An endless sequence of global batches."""

    @property
    def stride(self) -> int:
        """Slots that a step has at most."""
        ...

    def batch(self, step: int) -> Batch:
        """Return the samples of a step."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return everything that the sequence follows from, as JSON."""
        ...


class Order:
    """The endless sequence of global batches of one dataset.

    Args:
        buckets: the samples by shape; empty ones are passed over.
        seed: root of the shuffling.
    """

    def __init__(self, buckets: Sequence[Bucket], *, seed: int) -> None:
        self._buckets = [bucket for bucket in buckets if len(bucket.places)]
        if not self._buckets:
            raise ValueError("there is no sample to train on; every bucket is empty")
        self._seed = seed
        self._ends = np.cumsum([bucket.batches for bucket in self._buckets])

    @property
    def batches_per_epoch(self) -> int:
        """Steps after which every sample has been seen."""
        return int(self._ends[-1])

    @property
    def stride(self) -> int:
        """Slots that a step has at most."""
        return max(bucket.batch_size for bucket in self._buckets)

    def batch(self, step: int) -> Batch:
        """Return the samples of a step."""
        epoch, turn = divmod(step, self.batches_per_epoch)
        place = Permutation(self.batches_per_epoch, self._seed, epoch)(np.array([turn]))[0]
        number = int(np.searchsorted(self._ends, place, side="right"))
        bucket = self._buckets[number]
        first = int(place - self._ends[number] + bucket.batches) * bucket.batch_size
        slots = np.arange(first, first + bucket.batch_size) % len(bucket.places)
        shuffled = Permutation(len(bucket.places), self._seed, epoch, number)(slots)
        return Batch((Draw(bucket, tuple(take(bucket.places, shuffled).tolist())),))

    def describe(self) -> dict[str, Any]:
        """Return everything that the sequence follows from, as JSON."""
        buckets = {
            str(number): {"samples": len(bucket.places), "batch_size": bucket.batch_size}
            for number, bucket in enumerate(self._buckets)
        }
        return {"seed": self._seed, "buckets": buckets}


class Merged:
    """Batches that each are several in a row of another order: a step of several shapes.

    Args:
        order: of the small batches.
        draws: how many make up one.
    """

    def __init__(self, order: Ordered, draws: int) -> None:
        self._order, self._draws = order, draws

    @property
    def stride(self) -> int:
        """Slots that a step has at most."""
        return self._draws * self._order.stride

    def batch(self, step: int) -> Batch:
        """Return the samples of a step."""
        numbers = range(step * self._draws, (step + 1) * self._draws)
        return Batch(tuple(d for number in numbers for d in self._order.batch(number).draws))

    def describe(self) -> dict[str, Any]:
        """Return everything that the sequence follows from, as JSON."""
        return {"draws": self._draws, **self._order.describe()}
