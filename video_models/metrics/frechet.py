"""The Fréchet distance between two clouds of features, exactly as for two normal laws.

Which features they are decides what it means: of I3D on clips it is FVD (Unterthiner et al. 2018,
arXiv 1812.01717), of Inception on frames FID (Heusel et al. 2017, arXiv 1706.08500). The network is
always given; none is bundled.

Legend: N samples, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Mean (F,) and covariance (F, F), float64."""

    mean: Tensor
    covariance: Tensor


def gaussian_of(features: Tensor) -> Gaussian:
    """Fit a normal law to features (N, F), with the unbiased covariance.

    Raises:
        ValueError: there are fewer than two samples.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(
            f"features have shape {tuple(features.shape)}; give (N, F) with N of at least 2"
        )
    x = features.detach().double().cpu()
    return Gaussian(x.mean(0), torch.cov(x.T).reshape(x.shape[1], x.shape[1]))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Return the squared Fréchet distance of two normal laws.

    Dowson and Landau 1982 (10.1016/0047-259X(82)90077-X), eq. 4:
    |m_a - m_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)). The trace of the root is taken of the
    symmetric S_a^(1/2) S_b S_a^(1/2), which has the same eigenvalues: real, and never negative
    but by rounding.

    Raises:
        ValueError: the laws have different numbers of features.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"laws of {len(a.mean)} and {len(b.mean)} features; both must come of one network"
        )
    root = _root(a.covariance)
    cross = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp_min(0).sqrt().sum()
    traces = a.covariance.trace() + b.covariance.trace() - 2 * cross
    return float((a.mean - b.mean).square().sum() + traces.clamp_min(0))


def frechet_distance_of(features: Tensor, reference: Tensor) -> float:
    """Return the Fréchet distance between two clouds of features, (N, F) and (M, F)."""
    return frechet_distance(gaussian_of(features), gaussian_of(reference))


def _root(matrix: Tensor) -> Tensor:
    """Return the symmetric root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root
