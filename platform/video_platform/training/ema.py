"""Moving averages of the weights, kept where the optimiser keeps its own fp32 copy.

Under ZeRO each rank owns a slice of the fp32 weights; an average holds the same slice, so it costs
one fp32 copy of the model over all ranks together and no communication.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from video_platform.training.config import TrainingConfig

Decay = Callable[[int], float]
"""Number of the update -> weight of the past in it."""


def decay_at(decay: float, step: int, *, warmup: bool) -> float:
    """Return the decay used at a step: with warm-up (1 + step) / (10 + step) until `decay`."""
    return min(decay, (1 + step) / (10 + step)) if warmup else decay


def power_decay_at(width: float, step: int) -> float:
    """Return the decay of an average over a power of time, (1 - 1 / t)^(gamma + 1), t = step + 1.

    Karras et al. 2024 (EDM2), arXiv 2312.02696, equation 127: weights of time t' then count in
    proportion to t'^gamma, however long the run gets.

    Args:
        width: standard deviation of the profile relative to the length of the run, in (0, 0.28).
        step: number of the update; the first is 0.
    """
    return float((1 - 1 / (step + 1)) ** (power_of(width) + 1))


def power_of(width: float) -> float:
    """Return gamma for a relative width (the same paper, equation 126).

    It solves (gamma + 1)^(1/2) (gamma + 2)^-1 (gamma + 3)^(-1/2) = width.
    """
    squared = width**-2
    return float(np.roots([1.0, 7.0, 16.0 - squared, 12.0 - squared]).real.max())


def decays_of(config: TrainingConfig) -> Mapping[str, Decay]:
    """Return the averages that a run keeps, by the name under which each is saved.

    `ema` is the one of `ema_decay`; others are called by their number, such as `ema-0.9999` and
    `ema-width-0.1`.
    """
    found: dict[str, Decay] = {}
    warmup = config.ema_warmup
    if (main := config.ema_decay) is not None:
        found["ema"] = lambda step: decay_at(main, step, warmup=warmup)
    for decay in config.more_ema_decays:
        found[f"ema-{decay:g}"] = lambda step, decay=decay: decay_at(decay, step, warmup=warmup)  # type: ignore[misc]
    for width in config.ema_widths:
        found[f"ema-width-{width:g}"] = lambda step, width=width: power_decay_at(width, step)  # type: ignore[misc]
    return found


class MovingAverage:
    """An average of this rank's slices.

    Args:
        slices: the live fp32 tensors of this rank; the average starts as their copy.
        decay: weight of the past at each update.
    """

    def __init__(self, slices: Sequence[Tensor], *, decay: Decay) -> None:
        self._live = list(slices)
        self._average = [live.detach().clone() for live in self._live]
        self._decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the live weights after the update with this number."""
        weight = 1.0 - self._decay(step)
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
