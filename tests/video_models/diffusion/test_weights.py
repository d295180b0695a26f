"""What the loss counts at each time."""

from typing import get_args, get_type_hints

import pytest
import torch

from video_models.diffusion.config import LossWeightConfig, TimestepConfig
from video_models.diffusion.paths import add_noise, ends
from video_models.diffusion.timesteps import DENSITIES
from video_models.diffusion.weights import WEIGHTS, loss_weight

T = torch.linspace(0.01, 1, 100, dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 5.0])
def test_min_snr_weighs_the_clean_sample_by_the_ratio_up_to_gamma(gamma):
    torch.manual_seed(0)
    x0, noise, error = torch.randn(3, len(T), 7, dtype=torch.float64)
    x_t = add_noise(x0, noise, T)
    predicted, _ = ends(noise - x0 + error, x_t, T, kind="v")
    ratio = ((1 - T) / T).square()
    expected = ratio.clamp(max=gamma) * (predicted - x0).square().sum(dim=1)
    weight = loss_weight(T, LossWeightConfig(kind="min_snr", gamma=gamma))
    torch.testing.assert_close(weight * error.square().sum(dim=1), expected)


def test_min_snr_is_largest_where_the_ratio_is_gamma():
    weight = loss_weight(T, LossWeightConfig(kind="min_snr", gamma=4.0))
    assert T[weight.argmax()].item() == pytest.approx(1 / 3, abs=0.01)
    assert loss_weight(torch.zeros(1), LossWeightConfig(kind="min_snr")).item() == 0


@pytest.mark.parametrize("kind", ["linear", "uniform"])
def test_a_weight_is_one_in_the_mean(kind):
    assert loss_weight(T, LossWeightConfig(kind=kind)).mean().item() == pytest.approx(1, abs=0.02)


def test_recipes_offer_every_weight_and_density():
    kinds, densities = get_type_hints(LossWeightConfig), get_type_hints(TimestepConfig)
    assert get_args(kinds["kind"]) == tuple(WEIGHTS)
    assert get_args(densities["density"]) == tuple(DENSITIES)
