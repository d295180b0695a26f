"""What a training step of an autoencoder minimises.

Legend: B batch, C channels, T frames, H W rows and columns.
"""

import torch.nn.functional as F
from torch import Tensor

from video_models.autoencoder.posterior import Posterior
from video_models.objectives.config import ReconstructionConfig

GRADIENT_SCALES = 3


def reconstruction_terms(
    reconstruction: Tensor, video: Tensor, posterior: Posterior, config: ReconstructionConfig
) -> dict[str, Tensor]:
    """Return each term and their weighted sum, `loss`, for each sample: (B,) tensors.

    Args:
        reconstruction: (B, C, T, H, W), not clamped.
        video: (B, C, T, H, W) in [-1, 1].
        posterior: of the latents that were decoded.
        config: the weights; a term of weight 0 is neither computed nor returned.
    """
    difference = reconstruction - video
    compute = {
        "mse": lambda: difference.square().flatten(1).mean(1),
        "l1": lambda: difference.abs().flatten(1).mean(1),
        "gradient": lambda: gradient_error(difference),
        "kl": lambda: posterior.kl() / video[0].numel(),
    }
    weights = {name: getattr(config, name) for name in compute}
    terms = {name: compute[name]() for name, weight in weights.items() if weight}
    terms["loss"] = sum(weights[name] * term for name, term in terms.items())
    return terms


def gradient_error(difference: Tensor) -> Tensor:
    """Return the mean square of neighbouring differences in space, over three scales; (B,).

    The squared error of image gradients (Mathieu et al. 2016, arXiv 1511.05440, eq. 6 with
    alpha 2), summed over the clip as it is and averaged over squares of 2 and 4 pixels.
    """
    frames = difference.transpose(1, 2).flatten(0, 1)  # (B T, C, H, W)
    total = difference.new_zeros(difference.shape[0])
    for scale in range(GRADIENT_SCALES):
        if scale:
            if min(frames.shape[-2:]) < 4:
                break
            frames = F.avg_pool2d(frames, 2)
        for dim in (-1, -2):
            error = frames.diff(dim=dim).square()
            total = total + error.reshape(difference.shape[0], -1).mean(1)
    return total
