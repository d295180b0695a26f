"""A penalty of latents that stick out of their frame.

Legend: B batch, C channels, T frames, H W positions.
"""

import torch
from torch import Tensor

RADIUS = 3.0
"""Standard deviations around its frame's mean in which a latent vector is free."""


def outlier_penalty(latents: Tensor) -> Tensor:
    """Return the mean over positions of max(|z - mean| - r |std|, 0); (B,).

    Polyak et al. 2024 (Movie Gen, arXiv 2410.13720), section 3.1.1: mean and standard deviation of
    each channel are over the positions of a frame, the lengths over channels. A decoder can store
    the brightness of a whole frame in one bright spot; this makes it spread the information.

    Args:
        latents: (B, C, T, H, W), not normalised.
    """
    z = latents.to(torch.promote_types(latents.dtype, torch.float32))
    mean = z.mean((3, 4), keepdim=True)
    variance = z.var((3, 4), correction=0, keepdim=True)
    distance = torch.linalg.vector_norm(z - mean, dim=1)  # (B, T, H, W)
    radius = RADIUS * variance.sum(1).clamp_min(1e-12).sqrt()  # (B, T, 1, 1)
    outside: Tensor = (distance - radius).clamp_min(0)
    return outside.flatten(1).mean(1)
