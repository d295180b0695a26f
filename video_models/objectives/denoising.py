"""The denoising objective: match the velocity of the rectified flow.

Lipman et al. 2022, arXiv 2210.02747. Losses are means over everything but the batch, so that the
caller may weigh and average samples.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.paths import add_noise, velocity


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared difference of each sample, (B,) float32 or wider."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    return (a.to(dtype) - b.to(dtype)).square().flatten(1).mean(dim=1)


def flow_matching_loss(
    network: VelocityFunction, x0: Tensor, *, noise: Tensor, t: Tensor
) -> Tensor:
    """Return E|v(x_t, t) - (e - x0)|^2 of each sample, (B,).

    Args:
        network: the network with its condition, such as `conditioned(model, text)`.
        x0: clean latents, normalised, (B, C, T, H, W).
        noise: standard normal, like x0.
        t: times (B,) in [0, 1].
    """
    return squared_error(network(add_noise(x0, noise, t), t), velocity(x0, noise, t))


@torch.no_grad()
def validation_losses(
    network: VelocityFunction, x0: Tensor, *, noise: Tensor, times: Sequence[float]
) -> dict[float, Tensor]:
    """Return the loss of each sample at fixed times, (B,) by time.

    With the samples and their noise fixed as well, it falls smoothly where the training loss, whose
    times are random, looks flat.
    """
    return {
        t: flow_matching_loss(network, x0, noise=noise, t=x0.new_full((len(x0),), t)) for t in times
    }
