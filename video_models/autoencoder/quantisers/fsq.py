"""Finite scalar quantisation: each number of a latent is rounded to one of a few levels.

Mentzer et al. 2023, arXiv 2309.15505. The codebook is the grid of all combinations; nothing about
it is learned and no penalty is needed. `tanh` bounds a number to its levels, moved by half a level
where their number is even, so that zero is one of them.

Legend: B batch, T H W positions, D numbers in a code, L levels of each, l half of them.
"""

import torch
from torch import Tensor

from video_models.autoencoder.quantiser_config import QuantiserConfig
from video_models.autoencoder.quantisers.code import (
    Quantised,
    Quantiser,
    numbers_last,
    numbers_second,
    straight_through,
)

SLACK = 1e-3
"""How far the bound lies beyond the outermost levels, so that a finite number reaches them."""


class FiniteScalarQuantiser(Quantiser):
    """Rounds each number of a latent to one of its levels."""

    levels: Tensor
    strides: Tensor

    def __init__(self, config: QuantiserConfig):
        super().__init__(config.codebook_size)
        levels = torch.tensor(config.levels)
        strides = levels.cumprod(0) // levels  # 1, L_1, L_1 L_2, ...
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, latents: Tensor) -> Quantised:
        """Return the codes of latents (B, D, T, H, W); there are no penalties."""
        bounded = bound(numbers_last(latents), self.levels)
        steps = bounded.detach().round()
        middle = self.levels // 2
        indices = ((steps.long() + middle) * self.strides).sum(dim=-1)
        self.count(indices)
        codes = straight_through(steps, bounded) / middle
        return Quantised(numbers_second(codes).to(latents), indices, self.codebook_size, {})

    def codes(self, indices: Tensor) -> Tensor:
        """Return the codes (B, D, T, H, W), float32 in [-1, 1], of indices (B, T, H, W)."""
        middle = self.levels // 2
        steps = indices.unsqueeze(-1) // self.strides % self.levels - middle
        return numbers_second(steps / middle)


def bound(latents: Tensor, levels: Tensor) -> Tensor:
    """Squeeze numbers so that rounding gives -(L // 2), ..., (L - 1) // 2, and 0 stays 0.

    The function f of section 3.1 of arXiv 2309.15505. Other than in its appendix A.1 the slack lies
    outside of the levels, where atanh stays finite for two of them.

    Args:
        latents: (..., D).
        levels: number of levels of each of the D numbers, (D,).
    """
    reach = (levels - 1) * (1 + SLACK) / 2
    offset = torch.where(levels % 2 == 0, 0.5, 0.0)
    shift = torch.atanh(offset / reach)
    return torch.tanh(latents + shift) * reach - offset
