"""The loader: resumes at a step, splits over ranks, reads ahead in threads, remembers what fits."""

import itertools
import json
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from video_platform.batches.config import LoaderConfig
from video_platform.batches.dataset import Remembered, size_bytes
from video_platform.batches.loader import Loader, Place
from video_platform.batches.mix import Mix
from video_platform.batches.order import Bucket, Order
from video_platform.errors import CheckpointError


class Squares:
    """Sample i is i * i; counts how often each was read."""

    def __init__(self, size=10):
        self.reads = [0] * size

    def __len__(self):
        return len(self.reads)

    def __getitem__(self, index):
        self.reads[index] += 1
        return np.full(4, index * index, dtype=np.float32)


def make(dataset=None, *, rank=0, world=1, micro=2, config=None, buckets=None, **changes):
    dataset = dataset or Squares()
    buckets = buckets or [Bucket(range(len(dataset)), 4, micro)]
    order = Order(buckets, seed=changes.pop("seed", 1))
    place = Place(rank=rank, world=world)
    return Loader(dataset, order, np.stack, place=place, config=config, **changes)


def take(loader, count, start=None):
    return list(itertools.islice(loader.steps(start), count))


def flat(steps):
    """Return (position, index) of everything that counts."""
    return [
        pair
        for step in steps
        for batch in step
        if batch.share
        for pair in zip(batch.positions, batch.indices, strict=True)
    ]


@pytest.mark.parametrize("prefetch", [0, 3])
def test_resume_continues_at_the_next_sample(prefetch):
    config = LoaderConfig(prefetch_steps=prefetch)
    loader = make(config=config)
    began = take(loader, 4)
    state = json.loads(json.dumps(loader.state_dict()))
    assert state["step"] == 4
    resumed = make(config=config)
    resumed.load_state_dict(state)
    assert flat(began + take(resumed, 3)) == flat(take(make(), 7))


@given(
    before=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    after=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    stop=st.integers(0, 9),
    mixed=st.booleans(),
)
def test_resume_at_another_world_and_micro_batch_size_goes_on_with_the_same_samples(
    before, after, stop, mixed
):
    def loaders(world, micro):
        for rank in range(world):
            buckets = [Bucket(range(7), 4, micro), Bucket(range(7, 10), 3, micro)]
            order = Order(buckets, seed=1)
            if mixed:
                other = Order([Bucket(range(10, 15), 5, micro)], seed=1)
                order = Mix([order, other], weights=[2, 1], seed=1)
            config = LoaderConfig(prefetch_steps=0)
            place = Place(rank=rank, world=world)
            yield Loader(Squares(15), order, np.stack, place=place, config=config)

    whole = [pair for loader in loaders(1, 1) for pair in flat(take(loader, 10))]
    seen, states = [], []
    for loader in loaders(*before):
        seen += flat(take(loader, stop))
        states.append(loader.state_dict())
    assert all(state == states[0] for state in states)
    for loader in loaders(*after):
        loader.load_state_dict(states[0])
        seen += flat(take(loader, 10 - stop))
    assert sorted(seen) == sorted(whole)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 2}, "seed is 2, not 1"),
        ({"buckets": [Bucket(range(9), 4, 2)]}, r"buckets\.0\.samples is 9, not 10"),
        ({"buckets": [Bucket(range(10), 5, 2)]}, r"buckets\.0\.batch_size is 5, not 4"),
        ({"content": {"snapshot": "b"}}, "snapshot is 'b', not 'a'"),
    ],
)
def test_another_order_or_snapshot_is_refused_by_what_differs(changes, words):
    state = make(content={"snapshot": "a"}).state_dict()
    with pytest.raises(CheckpointError, match=f"began with: {words}; use its recipe"):
        make(**{"content": {"snapshot": "a"}, **changes}).load_state_dict(state)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_take_equally_many_steps_and_their_shares_add_up(size, world):
    ranks = [
        take(make(rank=rank, world=world, buckets=[Bucket(range(10), size, 2)]), 6)
        for rank in range(world)
    ]
    alone = take(make(buckets=[Bucket(range(10), size, 2)]), 6)
    for number, steps in enumerate(zip(*ranks, strict=True)):
        assert len({len(step) for step in steps}) == 1
        batches = [batch for step in steps for batch in step]
        assert sum(batch.share for batch in batches) == pytest.approx(1)
        for batch in batches:
            assert batch.share in (0, pytest.approx(len(batch.indices) / size))
            assert len(batch.data) == len(batch.indices) > 0
        assert sorted(flat(steps)) == sorted(flat([alone[number]]))


def test_the_weighted_sum_over_ranks_is_the_mean_over_the_batch():
    buckets = [Bucket(range(10), 5, 2)]
    mean = np.mean([i * i for _, i in flat(take(make(buckets=buckets), 1))])
    total = sum(
        batch.data.mean() * batch.share
        for rank in range(3)
        for batch in take(make(rank=rank, world=3, buckets=buckets), 1)[0]
    )
    assert total == pytest.approx(mean)


def test_positions_are_unique_over_steps_of_different_size_and_data_follows_indices():
    steps = take(
        make(Squares(20), buckets=[Bucket(range(12), 4, 1), Bucket(range(12, 20), 2, 1)]), 9
    )
    positions = [position for position, _ in flat(steps)]
    assert len({*positions}) == len(positions)
    for batch in itertools.chain(*steps):
        assert batch.data[0, 0] == batch.indices[0] ** 2
    assert [p for p, _ in flat(take(make(micro=1), 3))] == list(range(12))


class Slow(Squares):
    """A store that takes long to answer; notes who asks."""

    def __init__(self, delay_s):
        super().__init__(1000)
        self.delay_s, self.threads = delay_s, set()

    def __getitem__(self, index):
        self.threads.add(threading.get_ident())
        time.sleep(self.delay_s)
        return super().__getitem__(index)


def test_many_readers_hide_a_slow_store_behind_the_steps():
    dataset = Slow(0.1)
    config = LoaderConfig(readers=16, prefetch_steps=3)
    steps = make(dataset, config=config, buckets=[Bucket(range(1000), 8, 8)]).steps()
    next(steps)
    waited = 0.0
    for _ in range(6):
        time.sleep(0.15)  # a step; its eight samples take 0.8 s one after the other
        start = time.perf_counter()
        next(steps)
        waited += time.perf_counter() - start
    steps.close()
    assert waited < 0.3
    assert threading.get_ident() not in dataset.threads


def test_a_closed_loader_leaves_no_thread_behind():
    before = threading.active_count()
    steps = make(Slow(0.01), buckets=[Bucket(range(1000), 64, 8)]).steps()
    next(steps)
    start = time.perf_counter()
    steps.close()
    assert time.perf_counter() - start < 1
    assert threading.active_count() == before


def test_one_reader_is_one_thread():
    dataset = Slow(0.001)
    take(make(dataset, config=LoaderConfig(readers=1)), 5)
    assert len(dataset.threads) == 1


def test_samples_that_fit_are_read_once():
    dataset = Squares()
    take(make(dataset, config=LoaderConfig(readers=1)), 12)
    assert set(dataset.reads) == {1}


def test_memory_stays_within_its_limit():
    dataset = Squares()
    remembered = Remembered(dataset, memory_bytes=3 * 16)
    for index in [*range(10), *range(10)]:
        remembered[index]
    assert sorted(dataset.reads) == [1] * 3 + [2] * 7


def test_sizes_of_samples_count_their_arrays():
    assert size_bytes({"a": np.zeros(8, dtype=np.float32), "b": ["xyz"]}) == 32 + 3 + 2


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_failure_to_read_arrives_at_its_step(prefetch):
    class Broken(Squares):
        def __getitem__(self, index):
            if index == bad:
                raise OSError("gone")
            return super().__getitem__(index)

    bad = make().load(1)[0].indices[0]
    steps = make(Broken(), config=LoaderConfig(prefetch_steps=prefetch)).steps()
    next(steps)
    with pytest.raises(OSError, match="gone"):
        next(steps)
