"""Which samples make up which step: pure functions of the seed, never of a rank or of history.

The unit of order is the global batch. All its samples come from one bucket, so that they share one
shape; it is split over ranks and micro-batches afterwards. So the same samples meet the same step
on one rank or eight, and after a resume.

An epoch visits every sample. Where a bucket does not divide into whole batches its last batch is
filled up with samples that the epoch has shown already: nothing is dropped and no batch is ragged.
"""

from collections.abc import Sequence

import numpy as np

Bucket = Sequence[int]
"""Indices of samples with one shape."""


def bucket_by_shape(shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Group the indices of samples by shape, the buckets in the order of their shapes."""
    buckets: dict[tuple[int, ...], list[int]] = {}
    for index, shape in enumerate(shapes):
        buckets.setdefault(tuple(shape), []).append(index)
    return [buckets[shape] for shape in sorted(buckets)]


def batches_per_epoch(buckets: Sequence[Bucket], *, batch_size: int) -> int:
    """Count the global batches in which every sample is seen at least once."""
    return sum(-(-len(bucket) // batch_size) for bucket in buckets)


def epoch_batches(
    buckets: Sequence[Bucket], *, batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """Return the global batches of an epoch in the order in which they are trained on."""
    batches: list[list[int]] = []
    for number, bucket in enumerate(buckets):
        shuffled = _random(seed, epoch, number).permutation(np.asarray(bucket, dtype=np.int64))
        size = -(-len(bucket) // batch_size) * batch_size
        batches.extend(np.resize(shuffled, size).reshape(-1, batch_size).tolist())
    order = _random(seed, epoch, len(buckets)).permutation(len(batches))
    return [batches[i] for i in order]


def rank_slots(*, batch_size: int, micro_batch_size: int, rank: int, world: int) -> list[range]:
    """Return which slots of a global batch a rank takes, one range a micro-batch.

    Ranks take neighbouring slots in turn; every rank takes equally many micro-batches.

    Raises:
        ValueError: the batch does not divide evenly.
    """
    if batch_size % (world * micro_batch_size):
        raise ValueError(
            f"batch_size {batch_size} does not divide into {world} workers x micro_batch_size "
            f"{micro_batch_size}; change batch_size, micro_batch_size or the number of workers"
        )
    share = batch_size // world
    starts = range(rank * share, (rank + 1) * share, micro_batch_size)
    return [range(start, start + micro_batch_size) for start in starts]


class Order:
    """The endless sequence of global batches; remembers the epoch that was asked for last.

    Args:
        buckets: indices of samples, grouped by shape.
        batch_size: samples in a global batch.
        seed: root of the shuffling.
    """

    def __init__(self, buckets: Sequence[Bucket], *, batch_size: int, seed: int) -> None:
        self._buckets = [bucket for bucket in buckets if bucket]
        if not self._buckets:
            raise ValueError("there is no sample to train on; every bucket is empty")
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch(self._buckets, batch_size=batch_size)
        self._seed = seed
        self._epoch = -1
        self._batches: list[list[int]] = []

    def batch(self, step: int) -> list[int]:
        """Return the indices of the samples of a step, in the order of their slots."""
        epoch, number = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._batches = epoch_batches(
                self._buckets, batch_size=self.batch_size, seed=self._seed, epoch=epoch
            )
            self._epoch = epoch
        return self._batches[number]


def _random(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
