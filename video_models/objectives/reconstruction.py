"""What a training step of an autoencoder minimises.

Legend: B batch, C channels, T frames, H W rows and columns.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from video_models.autoencoder.posterior import Posterior
from video_models.autoencoder.quantisers import Quantised
from video_models.objectives.bands import laplacian_error, wavelet_error
from video_models.objectives.config import ReconstructionConfig
from video_models.objectives.outliers import outlier_penalty

GRADIENT_SCALES = 3
Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Distance of a reconstruction from its video, (B,); `video_models.objectives.lpips.Lpips` is
one."""


def reconstruction_terms(
    reconstruction: Tensor,
    video: Tensor,
    code: Posterior | Quantised,
    config: ReconstructionConfig,
    *,
    perceptual: Perceptual | None = None,
) -> dict[str, Tensor]:
    """Return each term and their weighted sum, `loss`, for each sample: (B,) tensors.

    Args:
        reconstruction: (B, C, T, H, W), not clamped.
        video: (B, C, T, H, W) in [-1, 1].
        code: that was decoded; a weight for a penalty that it does not have goes unused.
        config: the weights; a term of weight 0 is neither computed nor returned.
        perceptual: the network behind the term `lpips`.

    Raises:
        ValueError: `lpips` has a weight and no network.
    """
    if config.lpips and perceptual is None:
        raise ValueError(f"lpips is {config.lpips!r} and no perceptual network was given")
    difference = reconstruction - video
    compute: dict[str, Callable[[], Tensor]] = {
        "mse": lambda: difference.square().flatten(1).mean(1),
        "l1": lambda: difference.abs().flatten(1).mean(1),
        "gradient": lambda: gradient_error(difference),
        "laplacian": lambda: laplacian_error(difference),
        "wavelet": lambda: wavelet_error(difference),
    }
    if perceptual is not None:
        compute["lpips"] = lambda: perceptual(reconstruction, video)
    if isinstance(code, Posterior):
        compute["outlier"] = lambda: outlier_penalty(code.mode())
    terms = {name: term() for name, term in compute.items() if getattr(config, name)}
    for name, penalty in code.penalties().items():
        if getattr(config, name):
            terms[name] = penalty / video[0].numel()
    terms["loss"] = sum(
        (getattr(config, name) * term for name, term in terms.items()), start=video.new_zeros(())
    )
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
