"""What is done to the blocks of a network one by one: recomputed, compiled, measured.

A network hands over its plan by `block_names()`; nothing here knows its class.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from video_platform.errors import TrainingError
from video_platform.training.config import TrainingConfig

OTHER = "other"
"""What lies outside all blocks."""


def block_names(module: nn.Module, knob: str) -> tuple[str, ...]:
    """Return the names of a network's blocks.

    Raises:
        TrainingError: it names none; `knob` is what wants them.
    """
    names = getattr(module, "block_names", None)
    if names is None:
        raise TrainingError(
            f"{knob} needs block_names() on {type(module).__name__}; leave {knob} out"
        )
    return tuple(names())


def prepare_blocks(module: nn.Module, config: TrainingConfig) -> None:
    """Compile the blocks and let them recompute their activations, as the config says."""
    if config.compile_blocks:
        for block in _blocks(module, "compile_blocks"):
            _wrap(block, torch.compile)
    if config.activation_checkpointing:
        recompute_blocks(module, every=config.checkpoint_every_block, keeps=config.checkpoint_keeps)


def recompute_blocks(
    module: nn.Module, *, every: int = 1, keeps: Literal["inputs", "products"] = "inputs"
) -> None:
    """Let blocks recompute their activations in the backward pass.

    Args:
        module: names its blocks.
        every: 1 for all blocks, 2 for every second one.
        keeps: what a block remembers: its input, or also the results of `PRODUCTS`.
    """
    how: dict[str, Any] = {"use_reentrant": False}
    if keeps == "products":
        how["context_fn"] = _keep_products
    for number, block in enumerate(_blocks(module, "activation_checkpointing")):
        if number % every == 0:
            _wrap(block, lambda forward: functools.partial(checkpoint, forward, **how))


def _ops(*names: str) -> list[Any]:
    """Return operators of PyTorch; this build may lack some, or know them once they are used."""
    spaces = ((getattr(torch.ops, space), op) for space, op in (n.split("::") for n in names))
    return [getattr(space, op).default for space, op in spaces if hasattr(space, op)]


PRODUCTS = (
    "aten::mm",
    "aten::addmm",
    "aten::bmm",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "mkldnn::_linear_pointwise",
    "torch_attn::_varlen_attn",
)
"""Operators whose results selective recomputing keeps: nearly all of the arithmetic."""


def _keep_products() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Return what a block's forward pass and its repetition run inside."""
    first, again = create_selective_checkpoint_contexts(_ops(*PRODUCTS))  # type: ignore[no-untyped-call]
    return _with_own_linear(first), _with_own_linear(again)


@contextmanager
def _with_own_linear(context: AbstractContextManager[Any]) -> Iterator[None]:
    """Enter the context with PyTorch's own linear layer in place of that of ZeRO 3.

    DeepSpeed's adds the bias into the product that is kept, and so once more in the repetition; it
    replaces PyTorch's in the whole process, whatever else is trained there.
    """
    replaced, F.linear = F.linear, torch._C._nn.linear
    try:
        with context:
            yield
    finally:
        F.linear = replaced


def block_of(parameter: str, blocks: tuple[str, ...]) -> str:
    """Return which block a parameter lies in, by name."""
    return next((name for name in blocks if parameter.startswith(f"{name}.")), OTHER)


def _blocks(module: nn.Module, knob: str) -> Iterator[nn.Module]:
    return (module.get_submodule(name) for name in block_names(module, knob))


def _wrap(block: nn.Module, wrapper: Callable[[Any], Any]) -> None:
    block.forward = wrapper(block.forward)
