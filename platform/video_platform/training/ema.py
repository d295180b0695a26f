"""A moving average of the weights, kept where the optimiser keeps its own fp32 copy.

Under ZeRO each rank owns a slice of the fp32 weights; the average holds the same slice, so it costs
one fp32 copy of the model over all ranks together and no communication.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def decay_at(decay: float, step: int, *, warmup: bool) -> float:
    """Return the decay used at a step: with warm-up (1 + step) / (10 + step) until `decay`."""
    return min(decay, (1 + step) / (10 + step)) if warmup else decay


class MovingAverage:
    """The average of this rank's slices.

    Args:
        slices: the live fp32 tensors of this rank; the average starts as their copy.
        decay: weight of the past at each update, in [0, 1).
        warmup: forget faster during the first steps, see `decay_at`.
    """

    def __init__(self, slices: Sequence[Tensor], *, decay: float, warmup: bool) -> None:
        self._live = list(slices)
        self._average = [live.detach().clone() for live in self._live]
        self._decay = decay
        self._warmup = warmup

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the live weights after the update with this number."""
        weight = 1.0 - decay_at(self._decay, step, warmup=self._warmup)
        torch._foreach_lerp_(self._average, [live.detach() for live in self._live], weight)

    @torch.no_grad()
    def reset(self) -> None:
        """Start again from the live weights."""
        for average, live in zip(self._average, self._live, strict=True):
            average.copy_(live)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the live slices hold the average inside the block, and the average what they held.

        What is written into the live slices inside becomes the average.
        """
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, live in zip(self._average, self._live, strict=True):
            held = live.detach().clone()
            live.copy_(average)
            average.copy_(held)
