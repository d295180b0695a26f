"""When a layer may take the short way: nothing that it computes will be differentiated.

Then its own intermediate results may be overwritten and several operations done as one. What a
layer was given is never overwritten.
"""

from torch import Tensor, compiler, is_grad_enabled
from torch.autograd.forward_ad import unpack_dual


def is_inference(*tensors: Tensor | None) -> bool:
    """Say whether no derivative of any kind is taken with respect to these tensors.

    Not under `torch.compile`, which shortens ways by itself.
    """
    given = [x for x in tensors if x is not None]
    if compiler.is_compiling() or (is_grad_enabled() and any(x.requires_grad for x in given)):
        return False
    return all(unpack_dual(x).tangent is None for x in given)  # type: ignore[no-untyped-call]
