"""How a batch is shared out: every slot once, equally many micro-batches, about the same work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from video_platform.batches.order import Batch, Bucket, Draw
from video_platform.batches.split import measure, split

shapes = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 12)), min_size=1, max_size=5
)
worlds = st.integers(1, 9)


def batch_of(shapes):
    """Return a batch with a draw of each (tokens of a sample, most in a micro-batch, samples)."""
    return Batch(
        tuple(
            Draw(Bucket(range(count), count, micro, tokens=tokens), tuple(range(count)))
            for tokens, micro, count in shapes
        )
    )


def all_slots(parts):
    return sorted(slot for rank in parts for part in rank for slot in part)


@pytest.mark.parametrize("pack_tokens", [None, 16, 100])
@given(shapes=shapes, world=worlds)
def test_every_slot_is_taken_once_and_ranks_take_equally_many_micro_batches(
    pack_tokens, shapes, world
):
    batch = batch_of(shapes)
    parts = split(batch, world=world, pack_tokens=pack_tokens)
    assert len(parts) == world
    assert len({len(rank) for rank in parts}) == 1
    assert all_slots(parts) == [*range(len(batch.indices))]
    assert parts == split(batch, world=world, pack_tokens=pack_tokens)


@given(shapes=shapes, world=worlds)
def test_a_micro_batch_has_one_shape_and_no_more_samples_than_its_bucket_allows(shapes, world):
    batch = batch_of(shapes)
    for rank in split(batch, world=world):
        for part in rank:
            buckets = {batch.buckets[slot] for slot in part}
            assert len(buckets) <= 1
            assert all(len(part) <= bucket.micro_batch_size for bucket in buckets)


@given(shapes=shapes, world=worlds, room=st.integers(1, 100))
def test_a_packed_micro_batch_holds_what_it_has_room_for_or_one_larger_sample(shapes, world, room):
    batch = batch_of(shapes)
    for rank in split(batch, world=world, pack_tokens=room):
        for part in rank:
            tokens = sum(batch.buckets[slot].tokens for slot in part)
            assert tokens <= room or len(part) == 1


@given(size=st.integers(1, 40), world=worlds, micro=st.integers(1, 9))
def test_samples_of_one_shape_are_shared_to_the_sample_in_as_few_steps_as_can_be(
    size, world, micro
):
    parts = split(batch_of([(1, micro, size)]), world=world)
    loads = [sum(map(len, rank)) for rank in parts]
    assert max(loads) - min(loads) <= 1
    assert len(parts[0]) == -(-max(loads) // micro)


@given(shapes=shapes, world=worlds, room=st.integers(40, 200))
def test_no_rank_has_more_work_than_another_by_more_than_a_micro_batch(shapes, world, room):
    batch = batch_of(shapes)
    parts = split(batch, world=world, pack_tokens=room)
    works = [sum(batch.buckets[slot].cost for part in rank for slot in part) for rank in parts]
    assert max(works) - min(works) <= room


def test_large_and_small_samples_are_packed_so_that_all_ranks_end_at_once():
    batch = batch_of([(32, 1, 4), (8, 1, 10), (2, 1, 24)])  # 128 + 80 + 48 tokens
    parts = split(batch, world=4, pack_tokens=64)
    load = measure(batch, parts, pack_tokens=64)
    assert [len(rank) for rank in parts] == [1] * 4
    assert (load.tokens, load.fill, load.balance) == (256, 1.0, 1.0)


def test_work_other_than_tokens_is_what_is_balanced():
    dear = Bucket(range(2), 2, 1, tokens=4, work=40.0)
    cheap = Bucket(range(20), 20, 1, tokens=4, work=4.0)
    batch = Batch((Draw(dear, (0, 1)), Draw(cheap, tuple(range(20)))))
    parts = split(batch, world=4, pack_tokens=44)
    assert sorted(sum(map(len, rank)) for rank in parts) == [1, 1, 10, 10]
    assert measure(batch, parts, pack_tokens=44).balance == 1.0


def test_waiting_and_empty_room_are_measured():
    batch = batch_of([(6, 1, 1), (2, 4, 4)])
    parts = split(batch, world=2)
    assert parts == [[(1, 2, 3, 4)], [(0,)]]
    load = measure(batch, parts, pack_tokens=None)
    assert (load.tokens, load.fill, load.balance) == (14, 1.0, 14 / 16)
    padded = split(batch_of([(6, 1, 3)]), world=2)
    load = measure(batch_of([(6, 1, 3)]), padded, pack_tokens=None)
    assert (load.fill, load.balance) == (0.75, 0.75)
