"""Normalisation that is computed in float32 or wider, whatever the model runs in.

Legend: B batch, S tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.embeddings import widen
from video_models.layers.inference import carries_tangent
from video_models.layers.modulation import modulate
from video_models.layers.rms_norm import rms_norm


class WideLayerNorm(nn.LayerNorm):
    """A layer norm over the width; returns float32 or wider."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x with zero mean and unit variance over the width, scaled and shifted."""
        return layer_norm(widen(x), widen(self.weight), widen(self.bias), self.eps)


class ModulatedLayerNorm(nn.Module):
    """A layer norm over the width whose weights come from outside; returns float32 or wider."""

    def __init__(self, eps: float):
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Return x (B, S, D), normalised, times 1 + scale, plus shift, (B, 1 or S, D) each."""
        if shift.numel() == shift.shape[-1]:  # one for all tokens: weights of one layer norm
            return layer_norm(widen(x), 1 + scale.flatten(), shift.flatten(), self.eps)
        return modulate(layer_norm(widen(x), None, None, self.eps), shift, scale)


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps) over the width, times weight, plus bias.

    PyTorch's layer norm takes mean and variance for constants where a forward-mode derivative is
    differentiated again, so the formula takes its place under forward mode.
    """
    if not carries_tangent(x):
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    centred = x - x.mean(dim=-1, keepdim=True)
    y = centred * (centred.square().mean(dim=-1, keepdim=True) + eps).rsqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


class WideRMSNorm(nn.RMSNorm):
    """A root-mean-square norm over the width (Zhang & Sennrich 2019); returns x's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x divided by its root mean square over the width, scaled."""
        wide, weight = widen(x), widen(self.weight)
        if x.device.type == "cpu" and self.eps is not None and not torch.compiler.is_compiling():
            return rms_norm(wide, weight, self.eps).type_as(x)
        return F.rms_norm(wide, self.normalized_shape, weight, self.eps).type_as(x)
