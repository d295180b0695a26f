"""The two sides of an adversarial game over reconstructions.

Legend: B batch, C channels, T frames, H W rows and columns.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from video_models.layers.embeddings import widen

ADAPTIVE_EPSILON = 1e-4
"""Keeps the adaptive weight finite where the discriminator has no opinion."""


def discriminator_hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Return (max(0, 1 - D(x)) + max(0, 1 + D(x'))) / 2, a mean over patches; (B,).

    Lim & Ye 2017, arXiv 1705.02894, equation 11, halved as VQGAN does (Esser et al. 2021, arXiv
    2012.09841).

    Args:
        real: logits (B, ...) of videos.
        fake: logits of their reconstructions, detached from the autoencoder.
    """
    return (F.relu(1 - real).flatten(1).mean(1) + F.relu(1 + fake).flatten(1).mean(1)) / 2


def generator_hinge(fake: Tensor) -> Tensor:
    """Return -D(x'), a mean over patches; (B,).

    Lim & Ye 2017, arXiv 1705.02894, equation 12.

    Args:
        fake: logits (B, ...) of reconstructions.
    """
    return -fake.flatten(1).mean(1)


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], video: Tensor) -> Tensor:
    """Return R1 = |grad_x D(x)|^2 / 2 of each video, D being the mean over patches; (B,).

    Mescheder et al. 2018, arXiv 1801.04406, equation 9 with gamma 1. It can be differentiated by
    the weights, which takes a second backward pass through the discriminator.

    Args:
        discriminator: gives logits (B, ...) to videos; samples must not mix.
        video: (B, C, T, H, W).
    """
    video = video.detach().requires_grad_()
    score = discriminator(video).flatten(1).mean(1).sum()
    (gradient,) = torch.autograd.grad(score, video, create_graph=True)
    return widen(gradient).square().flatten(1).sum(1) / 2


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, *, limit: float) -> Tensor:
    """Return |g_rec| / (|g_adv| + 1e-4), at most `limit`: both losses then pull equally hard.

    Esser et al. 2021, arXiv 2012.09841, equation 7.

    Args:
        reconstruction: gradient of the reconstruction loss by the decoder's last kernel.
        adversarial: gradient of the generator's loss by the same kernel.
        limit: largest weight.
    """
    one, other = (
        torch.linalg.vector_norm(g.detach().float()) for g in (reconstruction, adversarial)
    )
    ratio: Tensor = one / (other + ADAPTIVE_EPSILON)
    return ratio.clamp_max(limit)
