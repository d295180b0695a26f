"""How numbers and texts become vectors of the model's width.

What carries the time stays in float32 whatever the model runs in: bfloat16 cannot tell 999 from
1000.

Legend: B batch, L text tokens, D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.linear import Linear, gelu_of


def widen(x: Tensor) -> Tensor:
    """Return x in float32, or as it is if it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def sinusoid(x: Tensor, dim: int) -> Tensor:
    """Return [cos | sin] of x times dim / 2 frequencies from 1 down to 1e-4, x.shape + (dim,)."""
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=x.device) / half
    angles = widen(x)[..., None] * torch.exp(-math.log(10000) * exponents)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class WideLinear(nn.Linear):
    """A linear layer that computes in float32 or wider, autocast or not."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b, in float32 or wider."""
        kind = x.device.type if torch.amp.is_autocast_available(x.device.type) else "cpu"
        with torch.autocast(kind, enabled=False):
            bias = None if self.bias is None else widen(self.bias)
            return F.linear(widen(x), widen(self.weight), bias)


class NumberEmbedder(nn.Module):
    """A sinusoid of a number through a two-layer network."""

    def __init__(self, freq_dim: int, dim: int):
        super().__init__()
        self.freq_dim = freq_dim
        self.linear_1 = WideLinear(freq_dim, dim)
        self.linear_2 = WideLinear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return x.shape + (D,)."""
        embedded: Tensor = self.linear_2(F.silu(self.linear_1(sinusoid(x, self.freq_dim))))
        return embedded


class TextProjection(nn.Module):
    """Text embeddings brought to the model's width by a two-layer network, each token by itself."""

    def __init__(self, text_dim: int, dim: int):
        super().__init__()
        self.linear_1 = Linear(text_dim, dim)
        self.linear_2 = Linear(dim, dim)

    def forward(self, text: Tensor) -> Tensor:
        """Return (B, L, D) from (B, L, text_dim)."""
        projected: Tensor = self.linear_2(gelu_of(self.linear_1, text, "tanh"))
        return projected
