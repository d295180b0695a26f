"""Draw latents out of a batch that is spread over ranks, by sums alone.

A latent draws a number by what it is, not by where it lies, and goes to a bucket by that number.
Sums over buckets are the same however the batch is split, and a bucket that holds one latent gives
it back. Latents that are alike fall into one bucket and are drawn once, so a batch of mostly
background does not give mostly background.

Legend: N latents on this rank, D numbers in a latent.
"""

import torch
from torch import Tensor

from video_models.autoencoder.quantisers.code import Reduce

BUCKETS = 4
"""Buckets for each latent that is asked for; about one in three holds one latent."""

TURNS = 100
"""How often the numbers wrap around within one standard deviation of the latents: often enough to
scatter them, not so often that rounding errors of the network decide."""

SAME = 1e-6
"""Variance of latents that count as one, as a share of the whole batch's."""


def draw_latents(rows: Tensor, num: int, *, step: int, reduce: Reduce) -> Tensor:
    """Return latents of all ranks' batches that differ from each other, (num or fewer, D).

    Args:
        rows: this rank's latents, (N, D).
        num: most latents to return.
        step: another step draws others.
        reduce: sums a tensor over all ranks, in place.
    """
    everything = _moments(rows, torch.zeros(len(rows), dtype=torch.int64, device=rows.device), 1)
    reduce(everything)
    total, mean, variance = _statistics(everything)
    generator = torch.Generator().manual_seed(step)
    direction = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64)
    way = (rows.double() - mean) @ direction.to(rows.device)
    number = way / variance.clamp_min(1e-30).sqrt() * TURNS % 1  # (N,) in [0, 1)
    num_buckets = BUCKETS * num
    bucket = (number * max(num_buckets, int(total))).long()
    kept = bucket < num_buckets
    buckets = _moments(rows[kept], bucket[kept], num_buckets)
    reduce(buckets)
    counts, means, variances = _statistics(buckets)
    single = (counts > 0) & (variances <= SAME * variance)
    return means[single][:num].to(rows)


def tally(rows: Tensor, slots: Tensor, num_slots: int) -> Tensor:
    """Sum rows (N, D) by the slot of each, (N,): (num_slots, D)."""
    return rows.new_zeros(num_slots, rows.shape[1]).index_add_(0, slots, rows)


def _moments(rows: Tensor, slots: Tensor, num_slots: int) -> Tensor:
    """Return sum, sum of squared lengths and count of each slot, (num_slots, D + 2), float64."""
    wide = rows.double()
    squares = wide.square().sum(dim=1, keepdim=True)
    return tally(torch.cat((wide, squares, torch.ones_like(squares)), dim=1), slots, num_slots)


def _statistics(moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return count (S,), mean (S, D) and variance summed over numbers (S,) of moments."""
    counts = moments[:, -1]
    means = moments[:, :-2] / counts.clamp_min(1)[:, None]
    variances = moments[:, -2] / counts.clamp_min(1) - means.square().sum(dim=1)
    return counts, means, variances.clamp_min(0)
