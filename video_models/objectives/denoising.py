"""The denoising objective: match the velocity of the rectified flow.

Lipman et al. 2022, arXiv 2210.02747. Losses are means over everything but the batch, so that the
caller may weigh and average samples.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.paths import add_noise, velocity

PackedVelocityFunction = Callable[[Sequence[Tensor], Tensor], Sequence[Tensor]]
"""(x_t, t) -> v: N samples (C, T, H, W) of different shapes and times (N,) to their velocities."""


def squared_error(a: Tensor, b: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the mean squared difference of each sample, (B,) float32 or wider.

    Args:
        a: (B, ...), of videos (B, C, T, H, W).
        b: the same.
        known: latent frames that do not count, (B, T) bool, not all of a sample; None counts all.
    """
    dtype = torch.promote_types(a.dtype, torch.float32)
    error = (a.to(dtype) - b.to(dtype)).square()
    if known is None:
        return error.flatten(1).mean(dim=1)
    counts = (~known).to(dtype)  # (B, T)
    by_frame = error.mean(dim=(1, 3, 4))  # (B, T)
    return (by_frame * counts).sum(dim=1) / counts.sum(dim=1)


def flow_matching_loss(
    network: VelocityFunction,
    x0: Tensor,
    *,
    noise: Tensor,
    t: Tensor,
    known: Tensor | None = None,
) -> Tensor:
    """Return E|v(x_t, t) - (e - x0)|^2 of each sample, (B,).

    Args:
        network: the network with its condition, such as `conditioned(model, text)`.
        x0: clean latents, normalised, (B, C, T, H, W).
        noise: standard normal, like x0.
        t: times (B,) in [0, 1].
        known: latent frames that the network is given and need not predict, (B, T) bool.
    """
    return squared_error(network(add_noise(x0, noise, t), t), velocity(x0, noise, t), known)


def packed_flow_matching_loss(
    network: PackedVelocityFunction,
    x0: Sequence[Tensor],
    *,
    noise: Sequence[Tensor],
    t: Tensor,
    known: Sequence[Tensor] | None = None,
) -> Tensor:
    """Return the loss of each of N samples of different shapes, (N,), from one call.

    Args:
        network: of N noisy samples and their times.
        x0: clean latents, normalised, (C, T, H, W) each.
        noise: standard normal, like x0.
        t: times (N,) in [0, 1].
        known: latent frames of each that the network is given, (T,) bool; None for none.
    """
    samples = [*zip(x0, noise, t, strict=True)]
    answers = network([add_noise(x, e, time) for x, e, time in samples], t)
    targets = [velocity(x, e, time) for x, e, time in samples]
    left_out = [None] * len(samples) if known is None else [each[None] for each in known]
    parts = zip(answers, targets, left_out, strict=True)
    return torch.cat([squared_error(v[None], target[None], out) for v, target, out in parts])


@torch.no_grad()
def validation_losses(
    network: VelocityFunction,
    x0: Tensor,
    *,
    noise: Tensor,
    times: Sequence[float],
    known: Tensor | None = None,
) -> dict[float, Tensor]:
    """Return the loss of each sample at fixed times, (B,) by time.

    With the samples and their noise fixed as well, it falls smoothly where the training loss, whose
    times are random, looks flat.
    """
    return {
        t: flow_matching_loss(network, x0, noise=noise, t=x0.new_full((len(x0),), t), known=known)
        for t in times
    }
