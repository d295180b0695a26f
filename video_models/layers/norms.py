"""Normalisation that is computed in float32 or wider, whatever the model runs in."""

import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.embeddings import widen


class WideLayerNorm(nn.LayerNorm):
    """A layer norm over the width; returns float32 or wider."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x with zero mean and unit variance over the width, scaled where it has weights."""
        weight, bias = (None if p is None else widen(p) for p in (self.weight, self.bias))
        return F.layer_norm(widen(x), self.normalized_shape, weight, bias, self.eps)


class WideRMSNorm(nn.RMSNorm):
    """A root-mean-square norm over the width (Zhang & Sennrich 2019); returns x's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x divided by its root mean square over the width, scaled."""
        normed = F.rms_norm(widen(x), self.normalized_shape, widen(self.weight), self.eps)
        return normed.type_as(x)
