"""The root-mean-square norm in few passes over memory, forward and backward.

PyTorch composes it, on a CPU, from six operations that each write and keep a tensor of their own;
a forward and a backward pass then take up to three times as long as here.

Legend: D width, x (..., D) in, w (D,) gain, r = 1 / sqrt(mean x^2 + eps), y = r x w out.
"""

from typing import Any

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return r x w; differentiable in every mode and to every order."""
    normed: Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return normed


class _RMSNorm(torch.autograd.Function):
    """dx = r g w - x r^3 <g w, x> / D, dw = the sum of r g x over rows, for the gradient g of y."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return (x * _inverse_rms(x, eps)).mul_(weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, ctx.eps = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        r = _inverse_rms(x, ctx.eps)
        wants_x, wants_weight, _ = ctx.needs_input_grad
        dx = _along(x, r, grad * weight) if wants_x else None
        dw = (r * (grad * x)).flatten(0, -2).sum(0) if wants_weight else None
        return dx, dw, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, dw: Tensor, _: None) -> Tensor:
        x, weight = ctx.saved_tensors
        r = _inverse_rms(x, ctx.eps)
        change: Tensor = _along(x, r, dx) * weight + x * r * dw
        return change


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """Return r, (..., 1)."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse: Tensor = (length.square() / x.shape[-1] + eps).rsqrt()
    return inverse


def _along(x: Tensor, r: Tensor, change: Tensor) -> Tensor:
    """Return the change of r x when x changes; the matrix of it is symmetric."""
    inner = torch.linalg.vecdot(x, change)[..., None]
    return torch.addcmul(r * change, x, r**3 * inner / -x.shape[-1])
