"""Times: the shift, the training densities, the sampling grid."""

import math

import pytest
import torch

from video_models.diffusion.config import LossWeightConfig, SamplingConfig, TimestepConfig
from video_models.diffusion.timesteps import (
    auto_shift,
    draw_times,
    sampling_grid,
    shift_times,
    unshift_times,
)

NUM = 200_000


def draw(**config):
    return draw_times(NUM, TimestepConfig(**config), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shift", [0.3, 1.0, 3.0, 7.0])
def test_a_shift_is_undone_and_keeps_the_ends(shift):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    shifted = shift_times(t, shift)
    torch.testing.assert_close(unshift_times(shifted, shift), t)
    assert shifted[0] == 0
    assert shifted[-1] == 1
    assert (shifted.diff() > 0).all()
    assert shift != 1 or torch.equal(shifted, t)


def test_a_shift_multiplies_the_odds_of_noise():
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    shifted = shift_times(t, 3.0)
    torch.testing.assert_close(shifted / (1 - shifted), 3 * t / (1 - t))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_logit_normal_times_have_the_asked_moments(shift):
    logits = torch.logit(draw(mean=-0.5, std=0.8, shift=shift).double())
    expected = -0.5 + torch.tensor(shift).log().item()
    assert logits.mean().item() == pytest.approx(expected, abs=0.01)
    assert logits.std().item() == pytest.approx(0.8, abs=0.01)


def test_shifted_uniform_times_have_the_closed_form_density():
    s = 3.0
    t = draw(density="uniform", shift=s)
    counts = torch.histc(t, bins=20, min=0, max=1) / NUM * 20
    middles = (torch.arange(20) + 0.5) / 20
    torch.testing.assert_close(counts, s / (s - (s - 1) * middles) ** 2, rtol=0.06, atol=0)


def test_cosmap_times_have_the_closed_form_density():
    counts = torch.histc(draw(density="cosmap"), bins=20, min=0, max=1) / NUM * 20
    t = (torch.arange(20) + 0.5) / 20
    torch.testing.assert_close(counts, 2 / (math.pi * (1 - 2 * t + 2 * t**2)), rtol=0.05, atol=0)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 1.29])
def test_mode_times_have_the_density_of_their_equation(scale):
    t = draw(density="mode", mode_scale=scale).double()
    u = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    f = 1 - u - scale * (torch.cos(math.pi * u / 2) ** 2 - 1 + u)
    for border in (0.1, 0.3, 0.5, 0.8):  # f falls: P(t < border) = P(u > the root)
        expected = (f < border).double().mean().item()
        assert (t < border).double().mean().item() == pytest.approx(expected, abs=0.005)


def test_an_automatic_shift_follows_resolution_and_length():
    assert auto_shift((1, 16, 16)) == pytest.approx(1.0)
    assert auto_shift((1, 64, 64)) == pytest.approx(3.0)
    assert auto_shift((1, 32, 64)) == pytest.approx(1.0 + 2 * 1792 / 3840)
    assert auto_shift((9, 64, 64)) == pytest.approx(9.0)
    assert auto_shift((1, 1, 1)) > 0.8


def test_an_automatic_shift_draws_the_times_of_that_shift():
    def drawn(shift, grid=None):
        config = TimestepConfig(shift=shift)
        return draw_times(9, config, generator=torch.Generator().manual_seed(0), grid=grid)

    assert torch.equal(drawn("auto", (4, 64, 64)), drawn(6.0))
    with pytest.raises(ValueError, match="shift is auto"):
        drawn("auto")


def test_the_same_generator_gives_the_same_times():
    assert torch.equal(draw(), draw())


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_grid_falls_from_noise_to_clean_and_nests(shift):
    fine, coarse = sampling_grid(32, shift=shift), sampling_grid(16, shift=shift)
    assert len(fine) == 33
    assert fine[0] == 1
    assert fine[-1] == 0
    assert (fine.diff() < 0).all()
    torch.testing.assert_close(fine[::2], coarse, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (TimestepConfig, {"std": 0.0}),
        (TimestepConfig, {"shift": -1.0}),
        (TimestepConfig, {"mode_scale": 1.8}),
        (LossWeightConfig, {"gamma": 0.0}),
        (SamplingConfig, {"steps": 0}),
        (SamplingConfig, {"guidance": -1.0}),
        (SamplingConfig, {"shift": 0.0}),
    ],
)
def test_impossible_values_are_refused(config, values):
    with pytest.raises(ValueError, match=next(iter(values))):
        config(**values)
