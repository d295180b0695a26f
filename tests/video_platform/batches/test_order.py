"""The order of samples: everything once an epoch, one shape a batch, the same for any ranks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from video_platform.batches.order import (
    Order,
    batches_per_epoch,
    bucket_by_shape,
    epoch_batches,
    rank_slots,
)

bucket_lists = st.lists(st.integers(1, 12), min_size=1, max_size=4).map(
    lambda sizes: [list(range(sum(sizes[:i]), sum(sizes[: i + 1]))) for i, size in enumerate(sizes)]
)
seeds = st.integers(0, 2**40)


@given(buckets=bucket_lists, batch_size=st.integers(1, 9), seed=seeds, epoch=st.integers(0, 50))
def test_an_epoch_shows_every_sample_and_every_batch_is_full(buckets, batch_size, seed, epoch):
    batches = epoch_batches(buckets, batch_size=batch_size, seed=seed, epoch=epoch)
    assert len(batches) == batches_per_epoch(buckets, batch_size=batch_size)
    assert all(len(batch) == batch_size for batch in batches)
    assert {i for batch in batches for i in batch} == {i for bucket in buckets for i in bucket}


@given(buckets=bucket_lists, batch_size=st.integers(1, 9), seed=seeds)
def test_a_batch_never_mixes_buckets(buckets, batch_size, seed):
    owner = {index: number for number, bucket in enumerate(buckets) for index in bucket}
    for batch in epoch_batches(buckets, batch_size=batch_size, seed=seed, epoch=0):
        assert len({owner[index] for index in batch}) == 1


@given(buckets=bucket_lists, batch_size=st.integers(1, 9), seed=seeds)
def test_only_the_filling_of_a_last_batch_repeats_a_sample(buckets, batch_size, seed):
    shown = [
        i for b in epoch_batches(buckets, batch_size=batch_size, seed=seed, epoch=3) for i in b
    ]
    filling = sum(-len(bucket) % batch_size for bucket in buckets)
    assert len(shown) == sum(len(bucket) for bucket in buckets) + filling


@given(world=st.integers(1, 4), accumulation=st.integers(1, 3), micro_batch_size=st.integers(1, 4))
def test_ranks_split_a_batch_without_gap_or_overlap(world, accumulation, micro_batch_size):
    batch_size = world * accumulation * micro_batch_size
    taken = [
        slots
        for rank in range(world)
        for slots in rank_slots(
            batch_size=batch_size, micro_batch_size=micro_batch_size, rank=rank, world=world
        )
    ]
    assert [slot for slots in taken for slot in slots] == list(range(batch_size))
    assert len(taken) == world * accumulation


def test_epochs_differ_and_a_seed_repeats_them():
    buckets = [list(range(40))]
    order = Order(buckets, batch_size=8, seed=5)
    again = Order(buckets, batch_size=8, seed=5)
    batches = [order.batch(step) for step in range(15)]
    assert batches[:5] != batches[5:10]
    assert [again.batch(step) for step in reversed(range(15))] == batches[::-1]
    assert Order(buckets, batch_size=8, seed=6).batch(0) != batches[0]


def test_buckets_hold_the_samples_of_one_shape():
    shapes = [(4, 2, 8, 8), (4, 1, 8, 8), (4, 2, 8, 8)]
    assert bucket_by_shape(shapes) == [[1], [0, 2]]


def test_a_batch_that_does_not_divide_names_the_knobs():
    with pytest.raises(ValueError, match=r"change batch_size, micro_batch_size or the number of"):
        rank_slots(batch_size=6, micro_batch_size=2, rank=0, world=2)


def test_no_sample_at_all_is_refused():
    with pytest.raises(ValueError, match="no sample to train on"):
        Order([[]], batch_size=1, seed=0)
