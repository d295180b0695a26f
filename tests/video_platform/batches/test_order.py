"""The order of samples: everything once an epoch, one shape a batch, the same for any ranks."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from video_platform.batches.order import Bucket, Merged, Order

sizes = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), min_size=1, max_size=4)
seeds = st.integers(0, 2**40)


def buckets_of(sizes):
    starts = np.cumsum([0, *(size for size, _ in sizes)]).tolist()
    return [
        Bucket(range(start, start + size), batch_size, 1)
        for start, (size, batch_size) in zip(starts, sizes, strict=False)
    ]


def epoch_of(order, epoch):
    size = order.batches_per_epoch
    return [order.batch(step) for step in range(epoch * size, (epoch + 1) * size)]


@given(sizes=sizes, seed=seeds, epoch=st.integers(0, 50))
def test_an_epoch_shows_every_sample_in_full_batches_of_one_bucket(sizes, seed, epoch):
    batches = epoch_of(Order(buckets_of(sizes), seed=seed), epoch)
    shown = [index for batch in batches for index in batch.indices]
    assert {*shown} == {*range(sum(size for size, _ in sizes))}
    assert len(shown) == sum(-(-size // batch_size) * batch_size for size, batch_size in sizes)
    for batch in batches:
        (bucket,) = {*batch.buckets}
        assert len(batch.indices) == bucket.batch_size
        assert {*batch.indices} <= {*bucket.places}


@given(size=st.integers(1, 40), batch_size=st.integers(1, 9), seed=seeds)
def test_only_the_filling_of_a_last_batch_repeats_a_sample(size, batch_size, seed):
    batches = epoch_of(Order([Bucket(range(size), batch_size, 1)], seed=seed), 3)
    shown = sorted(index for batch in batches for index in batch.indices)
    filling = -size % batch_size
    repeats = len(shown) - len({*shown})
    assert repeats == filling


@given(sizes=sizes, seed=seeds, draws=st.integers(1, 5), step=st.integers(0, 50))
def test_a_batch_of_several_draws_is_those_batches_one_behind_the_other(sizes, seed, draws, step):
    order = Order(buckets_of(sizes), seed=seed)
    merged = Merged(order, draws)
    batch = merged.batch(step)
    alone = [order.batch(number) for number in range(step * draws, (step + 1) * draws)]
    assert batch.indices == tuple(index for each in alone for index in each.indices)
    assert batch.buckets == tuple(bucket for each in alone for bucket in each.buckets)
    assert len(batch.indices) <= merged.stride
    assert merged.describe() == {"draws": draws, **order.describe()}


def test_epochs_differ_and_a_seed_repeats_them():
    buckets = [Bucket(range(40), 8, 1)]
    order, again = Order(buckets, seed=5), Order(buckets, seed=5)
    batches = [order.batch(step).indices for step in range(15)]
    assert batches[:5] != batches[5:10]
    assert sorted(batches[:5]) != sorted(batches[5:10])  # other samples meet, not only later
    assert [again.batch(step).indices for step in reversed(range(15))] == batches[::-1]
    assert Order(buckets, seed=6).batch(0).indices != batches[0]


def test_two_buckets_of_one_size_are_shuffled_apart():
    order = Order([Bucket(range(64), 64, 1), Bucket(range(64, 128), 64, 1)], seed=0)
    first, second = (np.array(batch.indices) % 64 for batch in epoch_of(order, 0))
    assert np.any(first != second)


@settings(deadline=None, max_examples=5)
@given(size=st.integers(4097, 9000), seed=seeds)
def test_a_bucket_too_long_for_a_list_is_shown_whole_as_well(size, seed):
    batches = epoch_of(Order([Bucket(range(size), 64, 1)], seed=seed), 1)
    assert len({index for batch in batches for index in batch.indices}) == size


def test_an_order_over_a_hundred_million_samples_opens_in_milliseconds_and_in_no_memory():
    tracemalloc.start()
    start = time.perf_counter()
    order = Order([Bucket(range(i * 10**8, (i + 1) * 10**8), 64, 8) for i in range(3)], seed=0)
    batch = order.batch(123_456)
    seconds, memory = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len({*batch.indices}) == 64
    assert seconds < 0.1
    assert memory < 200_000


def test_what_the_order_follows_from_is_told():
    order = Order([Bucket(range(5), 2, 1), Bucket(range(0), 2, 1)], seed=3)
    assert order.describe() == {"seed": 3, "buckets": {"0": {"samples": 5, "batch_size": 2}}}


def test_no_sample_at_all_is_refused():
    with pytest.raises(ValueError, match="no sample to train on"):
        Order([Bucket(range(0), 1, 1)], seed=0)
