"""Adaptive layer norm: shift, scale and gate from the time (Peebles & Xie 2023, arXiv 2212.09748).

Wan shares one projection of the time between all blocks and gives each block a learned table that
is added to it.

Legend: B batch, S tokens (1 when all tokens share one time), D width.
"""

import torch
from torch import Tensor

from video_models.layers.embeddings import widen


def split_modulation(table: Tensor, conditioning: Tensor) -> tuple[Tensor, ...]:
    """Return the k parts (B, S, D) of a block's table (1, k, D) plus conditioning (B, S, k, D)."""
    return (widen(table) + conditioning).unbind(dim=-2)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return x (1 + scale) + shift."""
    return torch.addcmul(shift, x, 1 + scale)


def add_gated(x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
    """Return x + gate update, summed in float32 or wider, in x's dtype."""
    return torch.addcmul(widen(x), widen(update), gate).type_as(x)
