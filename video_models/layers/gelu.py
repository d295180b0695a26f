"""GELU, by its approximation with tanh computed as a sigmoid where PyTorch's tanh is slow.

x (1 + tanh(u / 2)) / 2 = x sigmoid(u) with u = 2 sqrt(2 / pi) (x + 0.044715 x^3). On a CPU without
AVX-512 PyTorch's sigmoid takes a third of the time of its tanh, which is a sixth of the product in
front of it; the result is the same but for rounding (`python -m tests.benchmarks.transformer`).

Source: Hendrycks & Gimpel 2016, arXiv 1606.08415.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Gelu = Literal["tanh", "none"]
"""By the approximation with tanh, or exactly."""

CHUNK = 1 << 18
"""Numbers that are worked on at once: what stays in the cache between the operations."""

_SLOPE = 2 * math.sqrt(2 / math.pi)
_CUBE = 0.044715 * _SLOPE


def activate(y: Tensor, gelu: Gelu | None, *, in_place: bool = False) -> Tensor:
    """Return GELU of y, or y where none is asked for.

    Args:
        y: any tensor.
        gelu: which one.
        in_place: whether y may be overwritten, because no derivative is taken of what made it; y
            itself does not tell within `torch.func.jvp`.
    """
    if gelu is None:
        return y
    if gelu == "none" or not _tanh_is_slow(y):
        return F.gelu(y, approximate=gelu)
    if in_place and y.is_contiguous():
        return by_sigmoid(y, out=y)
    return _BySigmoid.apply(y)  # type: ignore[no-untyped-call, no-any-return]


def by_sigmoid(y: Tensor, *, out: Tensor) -> Tensor:
    """Write x sigmoid(u) of contiguous y to contiguous `out`, which may be y, and return it."""
    parts = (torch.split(each.view(-1), CHUNK) for each in (y, out))
    for x, result in zip(*parts, strict=True):
        u = (x * x).mul_(_CUBE).add_(_SLOPE).mul_(x)
        torch.mul(x, u.sigmoid_(), out=result)
    return out


class _BySigmoid(torch.autograd.Function):
    """The value by a sigmoid; the derivatives are PyTorch's."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor) -> Tensor:
        y = y.contiguous()
        return by_sigmoid(y, out=torch.empty_like(y))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.gelu_backward(grad, y, approximate="tanh")  # type: ignore[no-any-return]

    @staticmethod
    def jvp(ctx: Any, dy: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.gelu_backward(dy, y, approximate="tanh")  # type: ignore[no-any-return]


def _tanh_is_slow(y: Tensor) -> bool:
    """Say whether the sigmoid takes these tensors and is faster on them."""
    return (
        not torch.compiler.is_compiling()
        and y.device.type == "cpu"
        and type(y) is Tensor
        and y.dtype == torch.float32
        and not has_avx512()
    )


def has_avx512() -> bool:
    """Say whether PyTorch runs its AVX-512 kernels on this processor."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")
