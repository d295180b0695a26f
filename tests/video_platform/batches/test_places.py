"""Places without lists: a split is a partition, and parts of it are read as lists are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from video_platform.batches.places import portions, split, take

ranges = st.builds(lambda start, size: range(start, start + size), st.integers(0, 50),
                   st.integers(0, 5000))  # fmt: skip


@given(places=ranges, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_split_takes_every_place_once(places, share, seed):
    count = int(share * len(places))
    drawn, rest = split(places, count, seed, "held-out")
    assert len(drawn) == count
    everything = [*take(drawn, np.arange(count)), *take(rest, np.arange(len(rest)))]
    assert sorted(everything) == list(places)


def test_a_part_of_a_hundred_million_reads_as_a_list_does():
    drawn, _ = split(range(10, 100_000_010), 1000, 1)
    listed = take(drawn, np.arange(1000)).tolist()
    assert [drawn[3], drawn[-1], len(drawn[10:20])] == [listed[3], listed[-1], 10]
    assert take(drawn[10:20], np.arange(10)).tolist() == listed[10:20] == list(drawn[10:20])
    assert np.std(listed) > 2e7  # from all over


def test_equal_keys_draw_the_same():
    first, second, other = (split(range(1000), 20, seed)[0] for seed in (1, 1, 2))
    assert list(first) == list(second) != list(other)


@given(sizes=st.lists(st.integers(0, 1000), max_size=8), data=st.data())
def test_portions_add_up_and_fit(sizes, data):
    total = data.draw(st.integers(0, sum(sizes)))
    parts = portions(sizes, total)
    assert sum(parts) == total
    for part, size in zip(parts, sizes, strict=True):
        assert 0 <= part <= size
        assert abs(part - size * total / max(sum(sizes), 1)) < 1
