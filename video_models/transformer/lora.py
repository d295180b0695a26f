"""Low-rank adapters: a frozen matrix learns a change of small rank beside it.

Hu et al. 2021, arXiv 2106.09685, equation 3. Adapters are ordinary parameters named as PEFT and
diffusers name them, and the names of what they stand beside stay as they are.

    names = add_lora(model, rank=16)     # only the adapters require a gradient now
    ...                                  # train
    with merged(model): ...              # as fast as without; afterwards bit for bit as before
    merge_lora(model)                    # for good: a plain model

Legend: x (..., C) in, y (..., K) out, r rank, W (K, C) and A (r, C), B (K, r) matrices.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from video_models.layers.embeddings import WideLinear
from video_models.layers.linear import Linear

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""Ends of the names of the linear layers of attention."""


class LoraLinear(nn.Linear):
    """y = x W^T + b + (alpha / r) x A^T B^T.

    Args:
        base: the layer that learns a change; its parameters become those of this one.
        rank: r.
        alpha: the change counts alpha / r times; None for once.
    """

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float | None = None):
        with torch.device("meta"):
            super().__init__(base.in_features, base.out_features, bias=base.bias is not None)
        self.weight, self.bias = base.weight, base.bias
        self.kind = type(base)
        self.rank = rank
        self.alpha = float(rank) if alpha is None else alpha
        thin = WideLinear if isinstance(base, WideLinear) else Linear
        how = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.lora_A = thin(base.in_features, rank, bias=False, **how)
        self.lora_B = thin(rank, base.out_features, bias=False, **how)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., K) from (..., C)."""
        y: Tensor = self.kind.forward(self, x)
        change: Tensor = self.lora_B(self.lora_A(x))
        return y + (self.alpha / self.rank) * change

    @torch.no_grad()
    def plain(self) -> nn.Linear:
        """Return a layer without adapter that computes the same, with a matrix of its own."""
        down, up = self.lora_A.weight.double(), self.lora_B.weight.double()
        change = (self.alpha / self.rank) * up @ down
        has_bias = self.bias is not None
        layer = self.kind(self.in_features, self.out_features, bias=has_bias, device="meta")
        weight = (self.weight + change).to(self.weight.dtype)
        layer.weight = nn.Parameter(weight, requires_grad=self.weight.requires_grad)
        layer.bias = self.bias
        return layer.train(self.training)


def add_lora(
    model: nn.Module,
    *,
    rank: int,
    alpha: float | None = None,
    targets: Sequence[str] = ATTENTION,
) -> tuple[str, ...]:
    """Give linear layers of a model adapters, and freeze everything else.

    A new adapter changes nothing: B is zero.

    Args:
        model: what learns a change.
        rank: inner width of each adapter.
        alpha: the adapter's output counts alpha / rank times; None is `rank`, which is once.
        targets: which layers, by the ends of their names, such as `ffn.net.2`.

    Returns:
        The names of those layers.

    Raises:
        ValueError: a target names no linear layer, or the model has adapters already.
    """
    if any(lora_layers(model)):
        raise ValueError("the model has adapters already; merge_lora(model) makes them part of it")
    if rank < 1:
        raise ValueError(f"rank is {rank!r}; it must be at least 1")
    linear = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    for target in targets:
        if not any(_ends_in(name, target) for name in linear):
            ends = sorted({name.rpartition(".")[2] for name in linear})
            raise ValueError(
                f"targets have {target!r}, which ends the name of no linear layer; "
                f"such names end in {', '.join(ends)}"
            )
    chosen = [name for name in linear if any(_ends_in(name, target) for target in targets)]
    insert_lora(model, {name: LoraLinear(linear[name], rank=rank, alpha=alpha) for name in chosen})
    return tuple(chosen)


def insert_lora(model: nn.Module, layers: Mapping[str, LoraLinear]) -> None:
    """Put layers with adapters in the places of those that they stand beside; freeze the rest."""
    model.requires_grad_(False)
    for name, layer in layers.items():
        model.set_submodule(name, layer)


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """Yield the layers that have adapters, by name."""
    return ((name, part) for name, part in model.named_modules() if isinstance(part, LoraLinear))


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of the adapters alone, by their names in the model."""
    return {
        f"{name}.{part}.weight": getattr(layer, part).weight
        for name, layer in lora_layers(model)
        for part in ("lora_A", "lora_B")
    }


def merge_lora(model: nn.Module) -> None:
    """Make the adapters part of the matrices that they stand beside; they are gone then."""
    for name, layer in list(lora_layers(model)):
        model.set_submodule(name, layer.plain())


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Compute with merged matrices inside the block, and with what was before, after it."""
    layers = list(lora_layers(model))
    merge_lora(model)
    try:
        yield
    finally:
        for name, layer in layers:
            model.set_submodule(name, layer)


def _ends_in(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
