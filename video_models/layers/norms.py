"""Normalisation that is computed in float32 or wider, whatever the model runs in.

Legend: B batch, S tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.embeddings import widen
from video_models.layers.modulation import modulate
from video_models.layers.rms_norm import rms_norm


class WideLayerNorm(nn.LayerNorm):
    """A layer norm over the width; returns float32 or wider."""

    def forward(
        self, x: Tensor, shift: Tensor | None = None, scale: Tensor | None = None
    ) -> Tensor:
        """Return x with zero mean and unit variance over the width, scaled where it has weights.

        Args:
            x: (..., D).
            shift: of a norm without weights, what its result is modulated by afterwards,
                (B, 1 or S, D); both or neither.
            scale: the same.
        """
        if shift is None or scale is None:
            weight, bias = (None if p is None else widen(p) for p in (self.weight, self.bias))
            return F.layer_norm(widen(x), self.normalized_shape, weight, bias, self.eps)
        assert self.weight is None, "a norm has weights of its own or is modulated"
        if shift.numel() == shift.shape[-1]:  # one time for all tokens: weights of the layer norm
            weight, bias = 1 + scale.flatten(), shift.flatten()
            return F.layer_norm(widen(x), self.normalized_shape, weight, bias, self.eps)
        normed = F.layer_norm(widen(x), self.normalized_shape, eps=self.eps)
        return modulate(normed, shift, scale)


class WideRMSNorm(nn.RMSNorm):
    """A root-mean-square norm over the width (Zhang & Sennrich 2019); returns x's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x divided by its root mean square over the width, scaled."""
        wide, weight = widen(x), widen(self.weight)
        if x.device.type == "cpu" and self.eps is not None and not torch.compiler.is_compiling():
            return rms_norm(wide, weight, self.eps).type_as(x)
        return F.rms_norm(wide, self.normalized_shape, weight, self.eps).type_as(x)
