"""A linear layer that runs on oneDNN where that is faster: for large products on a CPU.

PyTorch multiplies float32 matrices on a CPU with MKL. With AVX-512 the oneDNN that comes with it,
and that its compiler uses, takes 5 to 15% less time for the shapes of a transformer, and applies
GELU to each tile of the product while that is in the cache, which makes it nearly free. Without
AVX-512 it is MKL that is faster, by 5 to 20%, and oneDNN's GELU takes as long as the product
(`python -m tests.benchmarks.transformer`).

Legend: x (..., C) rows in, W (K, C) weight, b (K,) bias, y (..., K) rows out.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.gelu import Gelu, activate, has_avx512
from video_models.layers.inference import is_inference

FEWEST_PRODUCTS = 1 << 22
"""Multiplications below which oneDNN's overhead of about 20 us is not worth it."""


class Linear(nn.Linear):
    """y = x W^T + b, and GELU of that where it is asked for."""

    def forward(self, x: Tensor, *, gelu: Gelu | None = None) -> Tensor:
        """Return (..., K) from (..., C)."""
        in_place = gelu is not None and is_inference(x, self.weight, self.bias)
        if not _suits_onednn(x, self.weight, self.bias):
            return activate(F.linear(x, self.weight, self.bias), gelu, in_place=in_place)
        if in_place:
            return _product(x, self.weight, self.bias, gelu)
        return activate(_OneDNN.apply(x, self.weight, self.bias), gelu)  # type: ignore[no-untyped-call]


def gelu_of(layer: nn.Module, x: Tensor, approximate: Gelu) -> Tensor:
    """Return GELU of what a layer makes of x; in one go, unless something stands around it."""
    if isinstance(layer, Linear):
        activated: Tensor = layer(x, gelu=approximate)
        return activated
    return F.gelu(layer(x), approximate=approximate)


class _OneDNN(torch.autograd.Function):
    """y = x W^T + b; dx = dy W, dW = dy^T x, db = the sum of dy over rows."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            _OneDNN.apply(grad, weight.t(), None) if wants_x else None,  # type: ignore[no-untyped-call]
            rows.t() @ x.flatten(0, -2) if wants_weight else None,
            rows.sum(0) if wants_bias else None,
        )

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dw: Tensor | None, db: Tensor | None) -> Tensor | None:
        x, weight = ctx.saved_tensors
        parts = [
            F.linear(dx, weight) if dx is not None else None,
            F.linear(x, dw) if dw is not None else None,
            db.expand(*x.shape[:-1], -1) if db is not None else None,
        ]
        known = [part for part in parts if part is not None]
        return sum(known[1:], start=known[0])


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: Gelu | None = None) -> Tensor:
    """Return x W^T + b, or GELU of that, by oneDNN; without derivatives."""
    kind, how = ("none", "") if gelu is None else ("gelu", gelu)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, kind, [], how)
    return y


def _suits_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Say whether oneDNN takes these tensors and is faster on them."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and type(x) is Tensor
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.bfloat16)
        and math.prod(x.shape) * len(weight) >= FEWEST_PRODUCTS
        and not torch.is_autocast_enabled("cpu")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and has_avx512()
        # oneDNN has no bfloat16 for older processors, and says so by an error.
        and (x.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
