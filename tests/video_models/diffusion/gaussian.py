"""A Gaussian world N(m, s^2) whose velocity on the rectified flow is known in closed form."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Data N(mean, std^2), each entry by itself."""

    mean: Tensor
    std: Tensor

    def slope(self, t: Tensor | float) -> Tensor:
        """A_t of v(x, t) = -m + A_t (x - (1 - t) m)."""
        return (t - (1 - t) * self.std**2) / self.spread(t) ** 2

    def spread(self, t: Tensor | float) -> Tensor:
        """Standard deviation of x_t."""
        return ((1 - t) ** 2 * self.std**2 + t**2) ** 0.5

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """The exact velocity; t is (B,), x is (B, D)."""
        t = t[:, None]
        return -self.mean + self.slope(t) * (x - (1 - t) * self.mean)

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]
        return -(x - (1 - t) * self.mean) / self.spread(t) ** 2

    def denoised(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x0 | x_t]."""
        t = t[:, None]
        gain = (1 - t) * self.std**2 / self.spread(t) ** 2
        return self.mean + gain * (x - (1 - t) * self.mean)

    def flow(self, x: Tensor, t: float, r: float) -> Tensor:
        """Where the exact trajectory through x at t is at r."""
        ratio = self.spread(r) / self.spread(t)
        return (1 - r) * self.mean + ratio * (x - (1 - t) * self.mean)


def example(std: float | None = None) -> Gaussian:
    mean = torch.tensor([0.7, -1.3, 2.0], dtype=torch.float64)
    stds = torch.tensor([0.6, 0.2, 1.5], dtype=torch.float64)
    return Gaussian(mean, stds if std is None else torch.full_like(stds, std))


def noise(num: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(num, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
