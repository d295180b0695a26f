"""Intervals cover the truth as often as they say."""

import pytest
import torch

from video_models.metrics.intervals import (
    bootstrap_mean,
    effective_count,
    rate_interval,
    wilson,
)


def test_wilson_gives_the_published_values():
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29, method 3."""
    for hits, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        interval = wilson(hits / count, count)
        assert interval.low == pytest.approx(low, abs=5e-5)
        assert interval.high == pytest.approx(high, abs=5e-5)


def test_a_rate_of_one_is_not_certain():
    interval = rate_interval([True] * 20)
    assert interval.value == interval.high == 1
    assert interval.low == pytest.approx(1 - 0.1611, abs=5e-5)


def test_clips_of_one_prompt_that_are_all_alike_count_once():
    groups = [prompt for prompt in range(10) for _ in range(4)]
    alike = [prompt % 2 == 0 for prompt in groups]
    assert effective_count(torch.tensor(alike).double(), groups) == pytest.approx(10)
    assert effective_count(torch.ones(40).double(), groups) == pytest.approx(10)
    mixed = [index % 4 < 2 for index in range(40)]  # every prompt right half of the time
    assert effective_count(torch.tensor(mixed).double(), groups) == 40
    assert effective_count(torch.tensor(alike).double(), None) == 40


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_the_rate_interval_covers_the_truth(spread):
    """60 prompts of 4 clips; each prompt's own rate is 0.7 plus or minus the spread."""
    generator = torch.Generator().manual_seed(0)
    covered = 0
    groups = [prompt for prompt in range(60) for _ in range(4)]
    for _ in range(400):
        sign = torch.randint(0, 2, (60,), generator=generator) * 2 - 1
        rates = (0.7 + spread * sign).repeat_interleave(4)
        hits = torch.rand(240, generator=generator) < rates
        interval = rate_interval(hits.tolist(), groups)
        covered += interval.low <= 0.7 <= interval.high
    assert 0.92 <= covered / 400 <= 0.99


def test_the_bootstrap_covers_the_truth_by_groups():
    generator = torch.Generator().manual_seed(0)
    covered = 0
    groups = [prompt for prompt in range(40) for _ in range(4)]
    for trial in range(200):
        own = torch.randn(40, generator=generator).repeat_interleave(4)
        values = 0.5 + own + torch.randn(160, generator=generator)
        interval = bootstrap_mean(values, groups, seed=trial, resamples=500)
        covered += interval.low <= 0.5 <= interval.high
    assert 0.90 <= covered / 200 <= 0.99


def test_the_bootstrap_is_the_same_for_the_same_seed():
    values = torch.arange(10.0)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values).value == 4.5


def test_a_wider_level_gives_a_wider_interval():
    narrow, wide = (wilson(0.5, 50, level=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("call", [lambda: wilson(1.2, 4), lambda: wilson(0.5, 0)])
def test_an_impossible_rate_is_refused(call):
    with pytest.raises(ValueError, match="rates lie in"):
        call()


def test_nothing_has_no_rate_and_no_mean():
    with pytest.raises(ValueError, match="at least one"):
        rate_interval([])
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean([])
