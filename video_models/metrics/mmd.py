"""The maximum mean discrepancy between two clouds of features.

Gretton et al. 2012 (jmlr.org/papers/v13/gretton12a): MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y).
Unlike the Fréchet distance it takes no law for granted and needs fewer samples. JEDi (Luo et al.
2024, arXiv 2410.05203) is 100 times the biased one with a polynomial kernel of degree 2 on V-JEPA's
features; here the features are always given.

Legend: N and M samples, F features.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Kernel = Callable[[Tensor, Tensor], Tensor]
"""(N, F) and (M, F) -> (N, M)."""


def polynomial_kernel(*, degree: int = 2, constant: float = 0.0) -> Kernel:
    """Return k(x, y) = (x y / F + c)^d."""
    return lambda x, y: (x @ y.T / x.shape[1] + constant) ** degree


def gaussian_kernel(bandwidth: float) -> Kernel:
    """Return k(x, y) = exp(-|x - y|^2 / (2 h^2))."""
    return lambda x, y: torch.exp(-torch.cdist(x, y).square() / (2 * bandwidth**2))


def mmd(
    features: Tensor,
    reference: Tensor,
    *,
    kernel: Kernel | None = None,
    estimator: Literal["biased", "unbiased"] = "unbiased",
) -> float:
    """Return the squared discrepancy of two clouds, in float64.

    Args:
        features: (N, F).
        reference: (M, F).
        kernel: None is `polynomial_kernel()`.
        estimator: `biased` (V-statistic) is never negative; `unbiased` (U-statistic) leaves the
            pairs of a sample with itself out and is 0 on average for equal laws.

    Raises:
        ValueError: the clouds have other numbers of features, or fewer than two samples.
    """
    if features.ndim != 2 or features.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"features have shape {tuple(features.shape)}, the reference {tuple(reference.shape)}; "
            "give (N, F) and (M, F) of one network"
        )
    if min(len(features), len(reference)) < 2:
        raise ValueError(f"{len(features)} and {len(reference)} samples; give at least two each")
    kernel = kernel or polynomial_kernel()
    x, y = (cloud.detach().double() for cloud in (features, reference))
    across = kernel(x, y).mean()
    within = [_mean_pair(kernel(cloud, cloud), estimator) for cloud in (x, y)]
    return float(within[0] + within[1] - 2 * across)


def _mean_pair(similarities: Tensor, estimator: str) -> Tensor:
    if estimator == "biased":
        return similarities.mean()
    n = len(similarities)
    return (similarities.sum() - similarities.trace()) / (n * (n - 1))
