"""Lookup-free quantisation: each number of a latent keeps nothing but its sign.

Yu et al. 2023 (MAGVIT-v2), arXiv 2310.05737, section 3. The codebook is the set of corners of a
cube. Two penalties shape the latents: the distance to their corner, and an entropy that is low
when each latent is sure of its corner and all corners are in use.

Legend: B batch, T H W positions, N = B T H W latents, D numbers in a code, K = 2^D codes, q code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from video_models.autoencoder.quantiser_config import QuantiserConfig
from video_models.autoencoder.quantisers.code import (
    Quantised,
    Quantiser,
    numbers_last,
    numbers_second,
    straight_through,
)


class LookupFreeQuantiser(Quantiser):
    """Replaces each number of a latent by its sign."""

    places: Tensor

    def __init__(self, config: QuantiserConfig):
        super().__init__(config.codebook_size)
        self.temperature = config.temperature
        self.diversity = config.diversity
        self.register_buffer("places", torch.arange(config.num_bits or 0), persistent=False)

    def forward(self, latents: Tensor) -> Quantised:
        """Return the codes of latents (B, D, T, H, W), `commitment` and `entropy`.

        The entropy of the codebook's use is that of this batch, on this rank.
        """
        z = numbers_last(latents)  # (B, T, H, W, D)
        bits = z > 0
        indices = (bits.long() << self.places).sum(dim=-1)
        self.count(indices)
        codes = bits * 2.0 - 1.0
        logits = 4 * z / self.temperature  # of +1 against -1: |z + 1|^2 - |z - 1|^2 = 4 z
        doubt = bit_entropy(logits).flatten(1).sum(dim=1)  # (B,)
        spread = mean_code_entropy(logits.sigmoid().flatten(0, -2))
        terms = {
            "commitment": (z - codes).square().flatten(1).sum(dim=1),
            "entropy": doubt - self.diversity * indices[0].numel() * spread,
        }
        passed = numbers_second(straight_through(codes, z)).to(latents)
        return Quantised(passed, indices, self.codebook_size, terms)

    def codes(self, indices: Tensor) -> Tensor:
        """Return the codes (B, D, T, H, W), of -1 and 1, float32, of indices (B, T, H, W)."""
        bits = indices.unsqueeze(-1) >> self.places & 1
        return numbers_second(bits * 2.0 - 1.0)


def bit_entropy(logits: Tensor) -> Tensor:
    """Return the entropy in nats of independent bits, given the log-odds of each.

    Its sum over the bits of a latent z is H(p(q | z)) over all K codes: the distances to the
    corners of a cube add up number by number, so p(q | z) is a product.
    """
    p = logits.sigmoid()
    return p * F.softplus(-logits) + (1 - p) * F.softplus(logits)


def mean_code_entropy(p: Tensor) -> Tensor:
    """Return the entropy in nats of the mean over latents of p(q | z), exactly, as a scalar.

    The mean of a product is none, but a code is two halves, and the mean of their product is one
    matrix product of the probabilities of each half's 2^(D / 2) codes.

    Args:
        p: probability that each bit of each latent is set, (N, D).
    """
    half = p.shape[1] // 2
    low, high = _half_codes(p[:, :half]), _half_codes(p[:, half:])
    mean = high.T @ low / len(p)  # (2^(D - half), 2^half)
    return -(mean * mean.clamp_min(torch.finfo(mean.dtype).tiny).log()).sum()


def _half_codes(p: Tensor) -> Tensor:
    """Return the probability of each code of a few bits, (N, 2^d), of those of the bits, (N, d)."""
    codes = p.new_ones(len(p), 1)
    for bit in p.unsqueeze(2).unbind(1):  # (N, 1)
        codes = torch.cat((codes * (1 - bit), codes * bit), dim=1)
    return codes
