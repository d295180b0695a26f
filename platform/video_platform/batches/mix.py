"""Train on several datasets by weight.

    order = Mix([Order(films, seed=0), Order(images, seed=0)], weights=[3, 1], seed=0)
    dataset = Joined([film_cache, image_cache])

A step's samples are all from one dataset. The steps come in windows: with weights 3 and 1 three of
every four steps are from the first, in a random order. Each dataset goes through epochs of its own.
"""

import bisect
import fractions
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from video_platform.batches.order import Batch, Ordered
from video_platform.batches.permutation import Permutation

LONGEST_WINDOW = 10_000
"""Most steps in which the proportions have to come out."""

Weight = float | fractions.Fraction


class Mix:
    """The endless sequence of global batches of several datasets.

    Args:
        orders: of the datasets, each by its indices in all of them joined.
        weights: the share of the steps that each gets, relative to the others.
        seed: root of the shuffling.

    Raises:
        ValueError: the weights have no short window.
    """

    def __init__(self, orders: Sequence[Ordered], *, weights: Sequence[Weight], seed: int) -> None:
        self._orders, self._seed = list(orders), seed
        self._counts = window_counts(weights)
        self._ends = [*itertools.accumulate(self._counts)]

    @property
    def stride(self) -> int:
        """Slots that a step has at most."""
        return max(order.stride for order in self._orders)

    def batch(self, step: int) -> Batch:
        """Return the samples of a step."""
        window, turn = divmod(step, self._ends[-1])
        place = int(Permutation(self._ends[-1], self._seed, "mix", window)(np.array([turn]))[0])
        number = bisect.bisect_right(self._ends, place)
        count = self._counts[number]
        return self._orders[number].batch(window * count + place - self._ends[number] + count)

    def describe(self) -> dict[str, Any]:
        """Return everything that the sequence follows from, as JSON."""
        parts = {
            str(number): {"steps": count, **order.describe()}
            for number, (count, order) in enumerate(zip(self._counts, self._orders, strict=True))
        }
        return {"seed": self._seed, "mix": parts}


def window_counts(weights: Sequence[Weight]) -> list[int]:
    """Return the smallest whole numbers in the proportion of some weights.

    Raises:
        ValueError: a weight is not above 0, or the numbers are too large.
    """
    if not weights or not all(weight > 0 and math.isfinite(weight) for weight in weights):
        raise ValueError(f"weights = {[*weights]!r}; each must be above 0")
    exact = [fractions.Fraction(str(weight)) for weight in weights]
    whole = math.lcm(*(weight.denominator for weight in exact))
    counts = [int(weight * whole) for weight in exact]
    divisor = math.gcd(*counts)
    counts = [count // divisor for count in counts]
    if sum(counts) > LONGEST_WINDOW:
        raise ValueError(
            f"weights = {[*weights]!r} come out only over {sum(counts)} steps; "
            f"use rounder ones, which do within {LONGEST_WINDOW}, such as 3 and 1"
        )
    return counts
