"""What each latent channel holds over a dataset, and which channels hold nothing.

Legend: B batch, C channels, T frames, H W positions.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from video_models.autoencoder.posterior import Posterior

DEAD_BELOW = 0.01
"""A channel is dead when less than this share of its variance tells clips and positions apart; the
threshold of active units in Burda et al. 2016 (arXiv 1509.00519), taken relative to the whole."""


@dataclass(frozen=True, kw_only=True)
class LatentChannels:
    """Statistics of draws from posteriors, one number a channel."""

    mean: tuple[float, ...]
    """Mean."""
    std: tuple[float, ...]
    """Standard deviation: of the posteriors' means, and within posteriors."""
    signal: tuple[float, ...]
    """Share of the variance that lies between the means, in [0, 1]; the rest is noise."""

    @property
    def dead(self) -> tuple[int, ...]:
        """The channels that carry nothing, by index."""
        return tuple(i for i, share in enumerate(self.signal) if share < DEAD_BELOW)


def latent_channels(posteriors: Iterable[Posterior]) -> LatentChannels:
    """Measure each latent channel over a stream of posteriors; sums are kept in float64.

    By the law of total variance, Var z = Var E[z|x] + E Var[z|x].

    Raises:
        ValueError: nothing was given.
    """
    count, total = 0, None
    for posterior in posteriors:
        mean, variance = _rows(posterior.mean), _rows(posterior.logvar).exp()  # (C, B T H W)
        sums = torch.stack((mean.sum(1), mean.square().sum(1), variance.sum(1)))  # (3, C)
        total = sums if total is None else total + sums
        count += mean.shape[1]
    if total is None:
        raise ValueError("no posterior was given; latent statistics need at least one")
    mean, square, within = (total / count).unbind(0)
    between = (square - mean.square()).clamp_min(0)
    whole = (between + within).clamp_min(1e-12)
    return LatentChannels(
        mean=tuple(mean.tolist()),
        std=tuple(whole.sqrt().tolist()),
        signal=tuple((between / whole).tolist()),
    )


def _rows(x: Tensor) -> Tensor:
    return x.detach().double().movedim(1, 0).flatten(1).cpu()
