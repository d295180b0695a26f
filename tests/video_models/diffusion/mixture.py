"""A mixture of Gaussians in one dimension: velocity, score and the exact flow in closed form."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixture:
    """Data sum_k w_k N(m_k, s_k^2), each entry by itself; all fields are (K,) float64."""

    weights: Tensor
    means: Tensor
    stds: Tensor

    def variances(self, t: Tensor) -> Tensor:
        """Of each part at times (..., 1)."""
        return ((1 - t) * self.stds) ** 2 + t**2

    def shares(self, x: Tensor, t: Tensor) -> Tensor:
        """How likely each part made x (...,) at t (...,): (..., K)."""
        x, t = x[..., None], t[..., None]
        var = self.variances(t)
        logs = self.weights.log() - 0.5 * ((x - (1 - t) * self.means) ** 2 / var + var.log())
        return logs.softmax(dim=-1)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """The exact velocity; x (B, D), t (B,)."""
        t = t[:, None].expand_as(x)
        shares, (x, t) = self.shares(x, t), (x[..., None], t[..., None])
        slope = (t - (1 - t) * self.stds**2) / self.variances(t)
        return (shares * (-self.means + slope * (x - (1 - t) * self.means))).sum(-1)

    def log_density(self, x: Tensor, t: Tensor) -> Tensor:
        """Of x (B, D) at t (B,), each entry by itself."""
        t = t[:, None, None]
        var = self.variances(t)
        logs = self.weights.log() - 0.5 * (
            (x[..., None] - (1 - t) * self.means) ** 2 / var + (2 * math.pi * var).log()
        )
        return logs.logsumexp(dim=-1)

    def distribution(self, x: Tensor, t: float) -> Tensor:
        """The cumulative distribution at x."""
        deviation = (((1 - t) * self.stds) ** 2 + t**2).sqrt()
        z = (x[..., None] - (1 - t) * self.means) / deviation
        return (self.weights * 0.5 * torch.erfc(-z / math.sqrt(2))).sum(-1)

    def flow(self, x: Tensor, t: float, r: float) -> Tensor:
        """Where the trajectory through x at t is at r: in one dimension mass keeps its order."""
        level = self.distribution(x, t)
        low, high = torch.full_like(x, -20), torch.full_like(x, 20)
        for _ in range(80):
            middle = (low + high) / 2
            below = self.distribution(middle, r) < level
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


def two_hills() -> Mixture:
    values = ([0.3, 0.7], [-2.0, 1.0], [0.3, 0.6])
    return Mixture(*(torch.tensor(v, dtype=torch.float64) for v in values))
