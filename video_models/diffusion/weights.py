"""What the error of a predicted velocity counts at each time of the rectified flow.

With x_t = (1 - t) x0 + t e an error of the velocity is t times as large as one of the clean sample:
x0 = x_t - t v. So a weight w(t) on |x0 error|^2 is t^2 w(t) on |v error|^2.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from video_models.diffusion.config import LossWeightConfig


def uniform(t: Tensor, config: LossWeightConfig) -> Tensor:
    """Return 1."""
    return torch.ones_like(t)


def linear(t: Tensor, config: LossWeightConfig) -> Tensor:
    """Return 2 t, in the mean 1: what is decided near noise counts more."""
    return 2 * t


def min_snr(t: Tensor, config: LossWeightConfig) -> Tensor:
    """Return t^2 min(SNR, gamma) = min((1 - t)^2, gamma t^2).

    Hang et al. 2023, arXiv 2303.09556, section 3.4, weigh the error of the clean sample by
    min(SNR, gamma).
    """
    return torch.minimum((1 - t).square(), config.gamma * t.square())


WEIGHTS: Mapping[str, Callable[[Tensor, LossWeightConfig], Tensor]] = {
    "linear": linear,
    "min_snr": min_snr,
    "uniform": uniform,
}
"""Weights by name."""


def loss_weight(t: Tensor, config: LossWeightConfig) -> Tensor:
    """Return what the loss counts at times (B,)."""
    return WEIGHTS[config.kind](t, config)
