"""The learning rate over a run, the decay of the average, and draws that know their purpose."""

import pytest
import torch

from video_platform.training.config import TrainingConfig
from video_platform.training.draws import generator
from video_platform.training.ema import MovingAverage, decay_at
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
