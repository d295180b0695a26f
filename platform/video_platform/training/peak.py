"""Count what a computation keeps in memory at its worst moment, with or without doing it.

    with without_numbers():
        model = build()
        peak_bytes = backward_peak(model, lambda: loss(model, torch.randn(8, 16)))

Counts tensors, each storage once, from the operation that makes it until nobody holds it any more.
What a kernel takes for itself while it runs is not seen.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has none
    """Counts the bytes of the tensors that are made inside the block.

    Args:
        outside: tensors that exist already and are not counted.

    Attributes:
        alive_bytes: of the tensors that are held now.
        peak_bytes: the most of them so far.
    """

    def __init__(self, *, outside: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has none
        self.alive_bytes: int = 0
        self.peak_bytes: int = 0
        self._known = WeakIdKeyDictionary()
        for tensor in outside:
            self._known[tensor.untyped_storage()] = True

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and take in what is new in its result."""
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._take_in(value)
        return result

    def _take_in(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = True
        size = storage.nbytes()
        self.alive_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.alive_bytes)
        weakref.finalize(storage, self._give_up, size)

    def _give_up(self, size: int) -> None:
        self.alive_bytes -= size


@contextlib.contextmanager
def without_numbers() -> Iterator[None]:
    """Make tensors inside the block that have shapes and types only, of any size, in no time."""
    with FakeTensorMode():
        yield


def backward_peak(module: nn.Module, loss: Callable[[], Tensor]) -> int:
    """Return the most bytes alive from the inputs to the end of the backward pass.

    Neither the parameters nor their gradients count; a gradient is dropped once it is whole.

    Args:
        module: the network that learns.
        loss: draws the inputs and runs the forward pass.
    """
    handles: list[RemovableHandle] = [
        parameter.register_post_accumulate_grad_hook(_drop_gradient)  # type: ignore[no-untyped-call]
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    try:
        with PeakMemory(outside=(*module.parameters(), *module.buffers())) as memory:
            torch.autograd.backward(loss())
    finally:
        for handle in handles:
            handle.remove()
    peak: int = memory.peak_bytes
    return peak


def cast_parameters(module: nn.Module, dtype: torch.dtype) -> None:
    """Give a network without numbers parameters of another type; `Module.to` cannot."""
    for layer in module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            cast = parameter.detach().to(dtype)
            setattr(layer, name, nn.Parameter(cast, requires_grad=parameter.requires_grad))


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None
