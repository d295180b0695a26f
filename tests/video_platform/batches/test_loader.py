"""The loader: resumes at a step, splits over ranks, reads ahead, remembers what fits."""

import itertools

import numpy as np
import pytest

from video_platform.batches.config import LoaderConfig
from video_platform.batches.loader import Loader, Place, Remembered, size_bytes
from video_platform.batches.order import Order


class Squares:
    """Sample i is i * i; counts how often each was read."""

    def __init__(self, size=10):
        self.reads = [0] * size

    def __len__(self):
        return len(self.reads)

    def __getitem__(self, index):
        self.reads[index] += 1
        return np.full(4, index * index, dtype=np.float32)


def make(dataset=None, *, rank=0, world=1, micro=2, config=None):
    dataset = dataset or Squares()
    order = Order([range(len(dataset))], batch_size=4, seed=1)
    place = Place(rank=rank, world=world, micro_batch_size=micro)
    return Loader(dataset, order, np.stack, place=place, config=config)


def take(loader, count, start=0):
    return list(itertools.islice(loader.steps(start), count))


def flat(steps):
    return [
        p
        for step in steps
        for batch in step
        for p in zip(batch.positions, batch.indices, strict=True)
    ]


@pytest.mark.parametrize("prefetch", [0, 3])
def test_resume_continues_at_the_next_sample(prefetch):
    loader = make(config=LoaderConfig(prefetch_steps=prefetch))
    assert flat(take(loader, 4) + take(loader, 3, start=4)) == flat(take(loader, 7))


def test_two_ranks_bring_what_one_brings():
    alone = flat(take(make(), 6))
    pair = flat(take(make(rank=0, world=2), 6)) + flat(take(make(rank=1, world=2), 6))
    assert sorted(pair) == sorted(alone)


def test_positions_count_on_over_steps_and_data_follows_indices():
    steps = take(make(micro=1), 3)
    assert [p for p, _ in flat(steps)] == list(range(12))
    for step in steps:
        assert sum(batch.share for batch in step) == 1
        for batch in step:
            assert batch.data[0, 0] == batch.indices[0] ** 2


def test_samples_that_fit_are_read_once():
    dataset = Squares()
    take(make(dataset), 12)
    assert set(dataset.reads) == {1}


def test_memory_stays_within_its_limit():
    dataset = Squares()
    remembered = Remembered(dataset, memory_bytes=3 * 16)
    for index in [*range(10), *range(10)]:
        remembered[index]
    assert sorted(dataset.reads) == [1] * 3 + [2] * 7


def test_sizes_of_samples_count_their_arrays():
    assert size_bytes({"a": np.zeros(8, dtype=np.float32), "b": ["xyz"]}) == 32 + 3 + 2


def test_a_failure_to_read_arrives_at_its_step():
    class Broken(Squares):
        def __getitem__(self, index):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        take(make(Broken()), 1)
