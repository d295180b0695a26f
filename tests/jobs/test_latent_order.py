"""Shares of pictures and of caches: exact over a window, for any number of draws and workers."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.latent_order import Part, latent_order
from video_platform.errors import ConfigError
from video_platform.training.config import TrainingConfig

FILMS, LARGE, STILLS = (5, 4, 4), (5, 8, 8), (1, 8, 8)
PARTS = [
    Part(0, FILMS, range(40)),
    Part(0, LARGE, range(40, 60)),
    Part(0, STILLS, range(60, 90)),
    Part(1, STILLS, range(90, 120)),
]


def config_of(**changes):
    sizes = {"steps": 9, "batch_tokens": 1280, "micro_batch_tokens": 320, "seed": 5}
    return TrainingConfig(**{**sizes, **changes})


def order_of(image_share, *, weights=(3, 1), parts=PARTS, **changes):
    given = {"weights": weights, "config": config_of(**changes), "image_share": image_share}
    return latent_order(parts, **given)


def kinds(order, steps):
    """Count draws by cache and kind."""
    found = Counter()
    for step in range(steps):
        for draw in order.batch(step).draws:
            index = draw.indices[0]
            image = draw.bucket.tokens == 64
            found[("images" if index >= 90 else "films", image)] += 1
    return found


@pytest.mark.parametrize("draws", [1, 2, 4])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.3, 1.0])
def test_the_share_of_pictures_is_exact_and_weights_divide_them(share, draws):
    order = order_of(share, draws=draws)
    counts = kinds(order, 80)
    images = counts[("films", True)] + counts[("images", True)]
    assert images == round(80 * draws * share)
    assert counts[("images", False)] == 0
    if images % 4 == 0:
        assert counts[("films", True)] == 3 * counts[("images", True)]


def test_pictures_and_clips_meet_in_every_step_of_four_draws():
    order = order_of(0.25, draws=4)
    for step in range(30):
        assert sorted(draw.bucket.tokens == 64 for draw in order.batch(step).draws) == [
            False, False, False, True,
        ]  # fmt: skip


def test_without_a_share_pictures_come_as_often_as_there_are():
    order = order_of(None, parts=PARTS[:3], weights=[1])
    per_epoch = 40 * 80 / 1280, 20 * 320 / 1280, 30 * 64 / 1280
    steps = sum(-(-count // 1) for count in per_epoch)
    seen = Counter(index for step in range(int(steps)) for index in order.batch(step).indices)
    assert {*seen} == {*range(90)}


@given(share=st.floats(0, 1), step=st.integers(0, 1000))
def test_a_step_follows_from_its_number_alone(share, step):
    first, second = order_of(share, draws=2), order_of(share, draws=2)
    second.batch(step + 1)
    assert first.batch(step).indices == second.batch(step).indices


def test_batches_hold_as_many_tokens_whatever_meets_in_them():
    order = order_of(0.5, draws=4)
    for step in range(30):
        batch = order.batch(step)
        assert sum(bucket.tokens for bucket in batch.buckets) == 1280


def test_work_is_asked_by_size():
    order = latent_order(
        PARTS, weights=[1, 1], config=config_of(), work=lambda size: size[0] * 100.0
    )
    assert {bucket.cost for step in range(9) for bucket in order.batch(step).buckets} <= {
        100.0, 500.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("share", "parts", "changes", "words"),
    [
        (0.5, PARTS[:2], {}, "image_share is 0.5, and the caches hold no pictures"),
        (0.5, PARTS[2:], {}, "image_share is 0.5, and the caches hold no clips"),
        (0.5, PARTS, {"draws": 8}, "largest clips take 320; lower draws or raise batch_tokens to"),
    ],
)
def test_shares_and_draws_that_cannot_be_are_refused(share, parts, changes, words):
    with pytest.raises(ConfigError, match=words):
        order_of(share, parts=parts, **changes)


def test_a_third_is_a_third():
    counts = kinds(order_of(0.3333, weights=(1, 1)), 60)
    assert counts[("films", True)] + counts[("images", True)] == 20
