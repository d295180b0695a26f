"""The learning rate over a run, the decay of the average, and draws that know their purpose."""

import pytest
import torch

from video_platform.training.config import TrainingConfig
from video_platform.training.draws import generator
from video_platform.training.ema import (
    MovingAverage,
    decay_at,
    decays_of,
    power_decay_at,
    power_of,
)
from video_platform.training.schedules import learning_rate


def config(**knobs):
    sizes = {"steps": 110, "batch_size": 1, "micro_batch_size": 1, "learning_rate": 2.0}
    return TrainingConfig(**(sizes | knobs))


def test_warm_up_rises_to_the_peak_in_even_steps():
    rates = [learning_rate(config(warmup_steps=4, schedule="constant"), s) for s in range(6)]
    assert rates == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_cosine_passes_the_middle_and_ends_at_its_fraction():
    knobs = config(warmup_steps=10, final_learning_rate_fraction=0.1)
    assert learning_rate(knobs, 10) == 2.0
    assert learning_rate(knobs, 60) == pytest.approx(2.0 * 0.55)
    assert learning_rate(knobs, 110) == pytest.approx(0.2)
    assert learning_rate(knobs, 999) == pytest.approx(0.2)


def test_an_average_warms_up_to_its_decay():
    assert decay_at(0.9, 0, warmup=True) == 0.1
    assert decay_at(0.9, 10_000, warmup=True) == 0.9
    assert decay_at(0.9, 0, warmup=False) == 0.9


def test_an_average_follows_its_recurrence_and_swaps_in_place():
    live = torch.tensor([1.0, 2.0])
    average = MovingAverage([live], decay=lambda step: 0.75)
    live.fill_(5.0)
    average.update(0)
    with average.in_place():
        torch.testing.assert_close(live, torch.tensor([2.0, 2.75]))
    torch.testing.assert_close(live, torch.tensor([5.0, 5.0]))


def test_draws_depend_on_their_purpose_alone():
    def draw(*key):
        return torch.randn(3, generator=generator(*key)).tolist()

    assert draw(1, "noise", 7) == draw(1, "noise", 7)
    others = [draw(2, "noise", 7), draw(1, "time", 7), draw(1, "noise", 8)]
    assert all(other != draw(1, "noise", 7) for other in others)


def test_wsd_stays_at_the_peak_and_falls_in_its_last_part():
    knobs = config(
        warmup_steps=10, schedule="wsd", decay_share=0.25, final_learning_rate_fraction=0.0
    )
    assert [learning_rate(knobs, step) for step in (10, 50, 85)] == [2.0, 2.0, 2.0]
    assert learning_rate(knobs, 98) == pytest.approx(2.0 * 12 / 25)
    assert learning_rate(knobs, 110) == 0.0


@pytest.mark.parametrize("width", [0.05, 0.1, 0.15, 0.25])
def test_a_power_average_weighs_times_by_their_power_and_has_its_width(width):
    gamma = power_of(width)
    assert (gamma + 1) ** 0.5 / (gamma + 2) / (gamma + 3) ** 0.5 == pytest.approx(width)
    steps = 4000
    weights = torch.zeros(steps, dtype=torch.float64)
    for step in range(steps):  # of each time in the average after the last
        decay = power_decay_at(width, step)
        weights *= decay
        weights[step] = 1 - decay
    t = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    assert weights.sum().item() == pytest.approx(1.0)
    mean = (weights * t).sum()
    assert ((weights * t**2).sum() - mean**2).sqrt().item() == pytest.approx(width, rel=1e-2)
    ratio = weights[steps // 2] / weights[-1]
    assert ratio.item() == pytest.approx(0.5**gamma, rel=2e-2)


def test_the_first_update_of_a_power_average_forgets_the_initial_weights():
    assert power_decay_at(0.1, 0) == 0.0


def test_averages_are_called_by_their_numbers():
    names = decays_of(config(ema_decay=None, more_ema_decays=(0.9999,), ema_widths=(0.05,)))
    assert list(names) == ["ema-0.9999", "ema-width-0.05"]
