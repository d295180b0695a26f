"""Shuffling without a list: one to one for every size, as random as numpy's, and at once."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from video_platform.batches import permutation
from video_platform.batches.permutation import SHORT, Permutation

keys = st.tuples(st.integers(0, 2**64), st.integers(0, 1000))
sizes = st.one_of(st.integers(1, 300), st.integers(SHORT - 2, SHORT + 600))
LARGE = 100_000_000


@given(size=sizes, key=keys)
def test_every_place_is_hit_once(size, key):
    assert np.array_equal(np.sort(Permutation(size, *key)(np.arange(size))), np.arange(size))


@settings(deadline=None)
@given(size=st.integers(1, 200), key=keys)
def test_the_construction_itself_is_one_to_one_at_the_smallest_sizes(size, key):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(permutation, "SHORT", 0)
        shuffled = Permutation(size, *key)(np.arange(size))
    assert np.array_equal(np.sort(shuffled), np.arange(size))


@given(size=st.integers(SHORT + 1, 1 << 60), key=keys, data=st.data())
def test_no_two_places_of_a_huge_range_meet(size, key, data):
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), unique=True, max_size=200)), int)
    shuffled = Permutation(size, *key)(places)
    assert len({*shuffled.tolist()}) == len(places)
    assert ((shuffled >= 0) & (shuffled < size)).all()


def test_a_place_goes_where_it_goes_whoever_asks_with_it():
    shuffle = Permutation(LARGE, 7, "epoch", 2)
    together = shuffle(np.arange(50))
    assert [int(shuffle(np.array([place]))[0]) for place in range(50)] == together.tolist()
    assert np.array_equal(Permutation(LARGE, 7, "epoch", 2)(np.arange(50)), together)
    assert not np.array_equal(Permutation(LARGE, 7, "epoch", 3)(np.arange(50)), together)


def test_a_hundred_million_places_are_shuffled_at_once():
    start = time.perf_counter()
    Permutation(LARGE, 0)(np.arange(64))
    assert time.perf_counter() - start < 0.1


@pytest.mark.parametrize("size", [7, 5000])
def test_every_place_goes_anywhere_equally_often(size):
    counts = np.zeros((7, 7))
    cells = np.arange(7) * (size // 7)
    for seed in range(3000):
        into = Permutation(size, seed)(cells) * 7 // size
        np.add.at(counts, (np.arange(7), into), 1)
    assert stats.chisquare(counts, axis=1).pvalue.min() > 1e-4


def statistics(shuffled):
    """What would betray an order: neighbours, rises, how far places move, what falls together."""
    size = len(shuffled)
    places = np.arange(size)
    steps = np.diff(shuffled)
    batches = shuffled[: size // 64 * 64].reshape(-1, 64) * 100 // size
    return {
        "rank correlation": np.corrcoef(places, shuffled)[0, 1],
        "serial correlation": np.corrcoef(shuffled[:-1], shuffled[1:])[0, 1],
        "lag of a row": np.corrcoef(shuffled[:-71], shuffled[71:])[0, 1],
        "rises": (steps > 0).mean(),
        "turns": ((steps[:-1] > 0) != (steps[1:] > 0)).mean(),
        "moved": np.abs(shuffled - places).mean() / size,
        "fixed": (shuffled == places).sum(),
        "steps": np.unique(steps).size / size,
        "shards in a batch": np.mean([np.unique(batch).size for batch in batches]),
    }


def test_its_statistics_are_those_of_numpys_shuffle():
    size, seeds = 5003, range(150)
    ours = [statistics(Permutation(size, seed)(np.arange(size))) for seed in seeds]
    theirs = [statistics(np.random.default_rng(seed).permutation(size)) for seed in seeds]
    for name in ours[0]:
        mine, other = ([each[name] for each in runs] for runs in (ours, theirs))
        assert stats.ks_2samp(mine, other).pvalue > 1e-4, name


def test_two_epochs_have_nothing_in_common():
    first, second = (Permutation(LARGE, 3, epoch)(np.arange(20_000)) for epoch in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(np.arange(20_000), first)[0, 1]) < 0.03


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="size = 0; a permutation is of 1 to"):
        Permutation(0)
