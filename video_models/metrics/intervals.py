"""How sure a measured number is: intervals for rates, means and differences.

Clips of one prompt resemble each other, so neither formula treats them as independent: means are
resampled by whole groups (prompts), and rates count the effective number of clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """A number and the bounds that it most likely lies within."""

    value: float
    low: float
    high: float


def wilson(value: float, count: float, *, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a rate (Wilson 1927, 10.1080/01621459.1927.10502953).

    Unlike the normal one it stays in [0, 1] and says something about rates of 0 and 1.

    Args:
        value: the rate, in [0, 1].
        count: independent trials, above 0; need not be whole.
        level: confidence.
    """
    if not 0 <= value <= 1 or count <= 0:
        raise ValueError(f"a rate of {value!r} in {count!r} trials; rates lie in [0, 1], count > 0")
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    middle = (value + z2 / (2 * count)) / (1 + z2 / count)
    half = (z2 * (value * (1 - value) / count + z2 / (4 * count**2))) ** 0.5 / (1 + z2 / count)
    return Interval(value, min(value, max(0.0, middle - half)), max(value, min(1.0, middle + half)))


def rate_interval(
    hits: Sequence[bool], groups: Sequence[int] | None = None, *, level: float = 0.95
) -> Interval:
    """Return the share of hits with Wilson's interval at the effective number of trials.

    Args:
        hits: one for each clip, at least one.
        groups: which prompt each clip belongs to; None takes clips as independent.
        level: confidence.
    """
    if not hits:
        raise ValueError("a rate needs at least one trial")
    values = torch.tensor(hits, dtype=torch.float64)
    return wilson(float(values.mean()), effective_count(values, groups), level=level)


def effective_count(values: Tensor, groups: Sequence[int] | None) -> float:
    """Return how many independent values tell as much as these grouped ones.

    The design effect (Kish 1965, section 8.2) is the variance of the mean by whole groups over
    its variance if all values were independent. It is kept between 1 and that of groups whose
    members are all alike, which is also what is assumed where the values show no variance.

    Args:
        values: (N,).
        groups: (N,) group of each; None for N groups of one.
    """
    n = len(values)
    if groups is None:
        return float(n)
    _, index = torch.unique(torch.tensor(groups), return_inverse=True)
    sizes = torch.bincount(index).double()
    worst = float(sizes.square().sum() / n)  # all alike within a group
    plain = float(values.var(correction=0)) / n
    k = len(sizes)
    if plain == 0 or k < 2:
        return n / worst
    residuals = torch.zeros(k, dtype=torch.float64).index_add(0, index, values - values.mean())
    grouped = float(residuals.square().sum()) / n**2 * k / (k - 1)
    return n / min(max(grouped / plain, 1.0), worst)


def bootstrap_mean(
    values: Tensor | Sequence[float],
    groups: Sequence[int] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Return the mean with its percentile bootstrap interval (Efron 1979), by whole groups.

    Args:
        values: (N,) one for each clip, such as the difference of two models at one seed.
        groups: (N,) which prompt each belongs to; None for each by itself.
        seed: of the resampling.
        resamples: number of bootstrap draws.
        level: confidence.
    """
    data = torch.as_tensor(values, dtype=torch.float64)
    if data.ndim != 1 or not len(data):
        raise ValueError(f"expected at least one value in one row, got shape {tuple(data.shape)}")
    labels = torch.arange(len(data)) if groups is None else torch.tensor(groups)
    _, index = torch.unique(labels, return_inverse=True)
    sizes = torch.bincount(index).double()
    sums = torch.zeros_like(sizes).index_add(0, index, data)
    k = len(sizes)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(k, (resamples, k), generator=generator)
    means = sums[draws].sum(1) / sizes[draws].sum(1)
    bounds = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(means, bounds).tolist()
    return Interval(float(data.mean()), low, high)
