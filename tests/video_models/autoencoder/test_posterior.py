"""The posterior against torch.distributions."""

import torch
from torch.distributions import Normal, kl_divergence

from video_models.autoencoder.posterior import Posterior
from video_models.autoencoder.statistics import latent_statistics


def some_posterior(seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return Posterior(
        torch.randn(batch, 3, 2, 4, 4, generator=generator),
        torch.randn(batch, 3, 2, 4, 4, generator=generator),
    )


def test_kl_is_that_of_normal_laws_summed_over_a_clip():
    posterior = some_posterior()
    law = Normal(posterior.mean, torch.exp(posterior.logvar / 2))
    reference = kl_divergence(law, Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(posterior.kl(), reference)


def test_log_variance_is_bounded():
    moments = torch.cat(
        (torch.zeros(1, 2, 1, 1, 1), torch.tensor([-99.0, 99.0]).view(1, 2, 1, 1, 1))
    )
    logvar = Posterior.from_moments(moments.view(1, 4, 1, 1, 1)).logvar.flatten()
    assert logvar.tolist() == [-30.0, 20.0]


def test_a_seed_fixes_the_draw():
    posterior = some_posterior()
    draws = [posterior.sample(torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_draws_have_the_posteriors_mean_and_variance():
    posterior = Posterior(
        torch.full((1, 1, 1, 200, 200), 3.0), torch.full((1, 1, 1, 200, 200), 2.0).log()
    )
    draw = posterior.sample(torch.Generator().manual_seed(0))
    assert abs(draw.mean() - 3) < 0.05
    assert abs(draw.var() - 2) < 0.05


def test_statistics_of_a_stream_are_those_of_all_draws():
    posteriors = [some_posterior(seed, batch) for seed, batch in ((0, 2), (1, 5), (2, 1))]
    mean, std = latent_statistics(iter(posteriors))
    means = torch.cat([p.mean for p in posteriors])
    variances = torch.cat([p.logvar.exp() for p in posteriors])
    torch.testing.assert_close(torch.tensor(mean), means.mean((0, 2, 3, 4)))
    total = means.var((0, 2, 3, 4), correction=0) + variances.mean((0, 2, 3, 4))
    torch.testing.assert_close(torch.tensor(std), total.sqrt())
