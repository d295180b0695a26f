"""Several datasets by weight: exact in every window, each through epochs of its own."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from video_platform.batches.dataset import Joined
from video_platform.batches.mix import Mix, window_counts
from video_platform.batches.order import Bucket, Order

weight_lists = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def orders_of(count, batch_size=2):
    return [
        Order([Bucket(range(number * 100, number * 100 + 10), batch_size, 1)], seed=number)
        for number in range(count)
    ]


@given(weights=weight_lists, seed=st.integers(0, 99), window=st.integers(0, 30))
def test_every_window_holds_each_dataset_as_often_as_its_weight_says(weights, seed, window):
    mix = Mix(orders_of(len(weights)), weights=weights, seed=seed)
    counts = window_counts(weights)
    size = sum(counts)
    shown = [mix.batch(step) for step in range(window * size, (window + 1) * size)]
    assert Counter(batch.indices[0] // 100 for batch in shown) == dict(enumerate(counts))


def test_each_dataset_is_seen_as_it_is_alone():
    films, images = orders_of(2)
    mix = Mix([films, images], weights=[3, 1], seed=4)
    shown = [mix.batch(step).indices for step in range(40)]
    assert sorted(i for i in shown if i[0] < 100) == sorted(
        films.batch(n).indices for n in range(30)
    )
    assert sorted(i for i in shown if i[0] >= 100) == sorted(
        images.batch(n).indices for n in range(10)
    )
    first, second = ([i[0] < 100 for i in shown[a : a + 20]] for a in (0, 20))
    assert first != second  # windows are shuffled apart


def test_weights_become_the_smallest_whole_numbers():
    assert window_counts([0.7, 0.3]) == [7, 3]
    assert window_counts([6, 4, 2]) == [3, 2, 1]
    assert window_counts([1.5, 0.25]) == [6, 1]


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1.0, 0.0], "each must be above 0"),
        ([float("nan")], "each must be above 0"),
        ([], "each must be above 0"),
        ([0.333333, 0.666667], "come out only over 1000000 steps; use rounder ones"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, words):
    with pytest.raises(ValueError, match=words):
        window_counts(weights)


def test_joined_datasets_count_on():
    joined = Joined([["a", "b"], [], ["c"]])
    assert [joined[index] for index in range(len(joined))] == ["a", "b", "c"]


def test_a_mix_tells_what_it_follows_from():
    tree = Mix(orders_of(2), weights=[2, 1], seed=9).describe()
    assert tree["seed"] == 9
    assert [tree["mix"][number]["steps"] for number in "01"] == [2, 1]
    assert tree["mix"]["1"]["buckets"]["0"]["samples"] == 10
