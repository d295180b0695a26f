"""How colourful and how contrasty a clip is: what over-guided and over-distilled models lose first.

Legend: B clips, T frames, H W pixels.
"""

import torch
from torch import Tensor


def saturation(video: Tensor) -> Tensor:
    """Return the mean distance of the largest from the smallest of R, G and B, in [0, 1]; (B,).

    It is HSV's value times its saturation, which unlike the saturation alone does not make noise
    of black pixels.

    Args:
        video: (B, 3, T, H, W) in [-1, 1].
    """
    _check(video)
    return (video.amax(dim=1) - video.amin(dim=1)).flatten(1).mean(dim=1) / 2


def clipped_share(video: Tensor, *, margin: float = 0.01) -> Tensor:
    """Return the share of values within `margin` of an end of the range; (B,).

    Args:
        video: (B, 3, T, H, W) in [-1, 1].
        margin: in units of [-1, 1].
    """
    _check(video)
    return (video.abs() >= 1 - margin).flatten(1).to(torch.float64).mean(dim=1)


def contrast(video: Tensor) -> Tensor:
    """Return the standard deviation of the luminance over a frame, averaged over frames; (B,).

    Luminance is that of BT.709, in units of the range.
    """
    _check(video)
    weights = video.new_tensor([0.2126, 0.7152, 0.0722]).view(3, 1, 1, 1)
    luminance = (video * weights).sum(dim=1)  # (B, T, H, W)
    return luminance.flatten(2).std(dim=2, correction=0).mean(dim=1) / 2


def _check(video: Tensor) -> None:
    if video.ndim != 5 or video.shape[1] != 3:
        raise ValueError(f"video has shape {tuple(video.shape)}; give (B, 3, T, H, W)")
