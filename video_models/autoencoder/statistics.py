"""Mean and standard deviation of latents over a dataset, from a stream.

Legend: B batch, C channels, T frames, H W positions.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from video_models.autoencoder.posterior import Posterior


class LatentStatistics:
    """Running mean and variance of each latent channel over draws from posteriors.

    By the law of total variance a draw varies by the spread of the means plus the mean of the
    variances, so no noise is drawn. Sums are kept in float64.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sums: Tensor | None = None

    def add(self, posterior: Posterior) -> None:
        """Take a batch in."""
        mean = posterior.mean.detach().double().movedim(1, 0).flatten(1)  # (C, B T H W)
        variance = posterior.logvar.detach().double().exp().movedim(1, 0).flatten(1)
        sums = torch.stack((mean.sum(1), (mean.square() + variance).sum(1))).cpu()  # (2, C)
        self._sums = sums if self._sums is None else self._sums + sums
        self._count += mean.shape[1]

    def result(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation, one number a channel.

        Raises:
            ValueError: nothing was taken in.
        """
        if self._sums is None:
            raise ValueError("no posterior was given; latent statistics need at least one")
        mean, square = (self._sums / self._count).unbind(0)
        std = (square - mean.square()).clamp_min(1e-12).sqrt()
        return tuple(mean.tolist()), tuple(std.tolist())


def latent_statistics(
    posteriors: Iterable[Posterior],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each latent channel over a stream of posteriors.

    `Autoencoder.set_normalisation(*latent_statistics(...))` stores them.
    """
    statistics = LatentStatistics()
    for posterior in posteriors:
        statistics.add(posterior)
    return statistics.result()
