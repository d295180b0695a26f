"""Samplers that add noise: their marginals on a Gaussian world are exact."""

import pytest
import torch

from tests.video_models.diffusion.gaussian import example, noise
from tests.video_models.distillation.mutation import mutated
from video_models.diffusion import stochastic
from video_models.diffusion.noise import step_noise
from video_models.diffusion.samplers import SAMPLERS
from video_models.diffusion.stochastic import noise_of, sample_consistency
from video_models.diffusion.timesteps import sampling_grid


def marginal_error(code=stochastic):
    """How far the posterior is from keeping the path: x_t = (1-t) x0 + t e to the same at r."""
    x0 = torch.full((4, 1), 1.7, dtype=torch.float64)
    t = torch.tensor([1.0, 0.9, 0.5, 0.2], dtype=torch.float64)
    r = torch.tensor([0.7, 0.1, 0.4, 0.0], dtype=torch.float64)
    slope = torch.ones_like(x0)
    mean_0, deviation = code.posterior(0 * slope, x0, t, r)
    mean_1, _ = code.posterior(slope, x0, t, r)
    gain = (mean_1 - mean_0) / slope  # how the mean follows x_t
    mean = mean_0 + gain * (1 - t)[:, None] * x0
    variance = (gain * t[:, None]) ** 2 + deviation**2
    off = (mean - (1 - r)[:, None] * x0).abs().max(), (variance - r[:, None] ** 2).abs().max()
    return max(off).item()


def test_the_posterior_keeps_mean_and_variance_of_the_path():
    assert marginal_error() < 1e-15


MUTATIONS = {
    "the deviation of the step of DDIM": ("r * gained.clamp_min(0).sqrt()", "0 * gained"),
    "the clean sample counted whole": ("(1 - r) * gained * x0", "gained * x0"),
    "the ratio of times not squared": ("(r / t).square()", "(r / t)"),
    "the signal's ratio upside down": (
        "    a = (1 - t) / (1 - r)\n",
        "    a = (1 - r) / (1 - t).clamp_min(1e-3)\n",
    ),
}


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_broken_posterior_is_noticed(name):
    assert marginal_error(mutated(stochastic, *MUTATIONS[name])) > 1e-2


def test_ancestral_samples_have_the_worlds_mean_and_nearly_its_spread():
    world, x = example(), noise(20_000)
    end = SAMPLERS["ancestral"](
        world.velocity, x, sampling_grid(256), renoise=lambda index: noise(20_000, seed=index + 1)
    )
    torch.testing.assert_close(end.mean(0), world.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(end.std(0), world.std, rtol=0.03, atol=0)


def test_a_consistency_function_gives_the_world_at_any_number_of_steps():
    world, x = example(), noise(20_000)

    def jump(x, t):
        """The velocity whose jump to 0 is the exact flow's end."""
        return (x - world.flow(x, t[0], 0.0)) / t[:, None]

    for steps in (1, 2, 4):
        end = sample_consistency(
            jump, x, sampling_grid(steps), renoise=lambda index: noise(20_000, seed=index + 1)
        )
        torch.testing.assert_close(end.mean(0), world.mean, rtol=0, atol=0.05)
        torch.testing.assert_close(end.std(0), world.std, rtol=0.03, atol=0)


@pytest.mark.parametrize("name", ["ancestral", "consistency"])
def test_fresh_noise_must_be_given(name):
    with pytest.raises(ValueError, match="renoise"):
        SAMPLERS[name](example().velocity, noise(), sampling_grid(2))


def test_fresh_noise_belongs_to_seed_and_step():
    fresh = noise_of([3, 4], (2, 1, 2, 2))
    assert fresh(0).shape == (2, 2, 1, 2, 2)
    assert torch.equal(fresh(1)[0], step_noise(3, 1, (2, 1, 2, 2)))
    assert not torch.equal(fresh(0)[0], fresh(1)[0])
    assert not torch.equal(fresh(0)[0], fresh(0)[1])
