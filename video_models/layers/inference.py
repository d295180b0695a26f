"""Which derivatives are taken of what a layer computes, so that it may take a shorter way.

Under `torch.compile`, which shortens ways by itself, a layer takes the plain one.
"""

from torch import Tensor, compiler, is_grad_enabled
from torch.autograd.forward_ad import unpack_dual


def is_inference(*tensors: Tensor | None) -> bool:
    """Say whether no derivative of any kind is taken with respect to these tensors."""
    given = [x for x in tensors if x is not None]
    if compiler.is_compiling() or (is_grad_enabled() and any(x.requires_grad for x in given)):
        return False
    return not any(carries_tangent(x) for x in given)


def carries_tangent(x: Tensor) -> bool:
    """Say whether a forward-mode derivative is taken with respect to a tensor."""
    if compiler.is_compiling():
        return False
    return unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]
