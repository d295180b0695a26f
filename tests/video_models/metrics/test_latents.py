"""Latent statistics against draws, and channels that hold nothing."""

import pytest
import torch

from video_models.autoencoder.posterior import Posterior
from video_models.autoencoder.statistics import latent_statistics
from video_models.metrics.latents import latent_channels


def posteriors(count=4):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        mean = torch.randn(2, 4, 3, 5, 6, generator=generator)
        mean[:, 1] = 7.0  # the same everywhere
        mean[:, 2] *= 1e-3  # drowned by noise of deviation 1
        mean[:, 3] = 1e-3 * mean[:, 3] + 1  # small, and still told apart
        logvar = torch.full_like(mean, -2.0)
        logvar[:, 2] = 0.0
        logvar[:, 3] = -18.0
        yield Posterior(mean, logvar)


def test_dead_channels_are_those_that_tell_nothing_apart():
    found = latent_channels(posteriors())
    assert found.dead == (1, 2)
    assert found.signal[3] > 0.9  # a small scale is no fault


def test_mean_and_deviation_are_those_of_draws():
    found = latent_channels(posteriors(count=60))
    generator = torch.Generator().manual_seed(1)
    draws = torch.cat([each.sample(generator) for each in posteriors(count=60)]).movedim(1, 0)
    torch.testing.assert_close(
        torch.tensor(found.mean), draws.flatten(1).mean(1), atol=0.02, rtol=0
    )
    torch.testing.assert_close(torch.tensor(found.std), draws.flatten(1).std(1), atol=0, rtol=0.02)


def test_they_are_the_statistics_that_a_folder_stores():
    found = latent_channels(posteriors())
    mean, std = latent_statistics(posteriors())
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)


def test_nothing_has_no_statistics():
    with pytest.raises(ValueError, match="at least one"):
        latent_channels([])
