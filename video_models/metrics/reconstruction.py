"""How near a reconstruction is to its video.

Legend: B batch, C channels, T frames, H W rows and columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03


def psnr(reconstruction: Tensor, video: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each clip in dB; (B,).

    Args:
        reconstruction: (B, C, T, H, W) in [-1, 1].
        video: the same shape.
    """
    return _decibels((reconstruction - video).double().square().flatten(1).mean(1))


def psnr_by_frame(reconstruction: Tensor, video: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each frame in dB; (B, T).

    A clip's own value is of its mean error, and so never above the mean of its frames' values.
    """
    return _decibels((reconstruction - video).double().square().mean((1, 3, 4)))


def ssim(reconstruction: Tensor, video: Tensor) -> Tensor:
    """Return the structural similarity of each clip, a mean over its frames; (B,)."""
    return ssim_by_frame(reconstruction, video).mean(1)


def ssim_by_frame(reconstruction: Tensor, video: Tensor) -> Tensor:
    """Return the structural similarity of each frame; (B, T).

    Wang et al. 2004 (10.1109/TIP.2003.819861), eq. 13: a Gaussian window of 11 x 11 pixels and
    sigma 1.5 where it fits whole, K1 0.01, K2 0.03; channels are averaged.

    Raises:
        ValueError: the frames are smaller than the window.
    """
    B, _, T, H, W = video.shape
    if min(H, W) < WINDOW:
        raise ValueError(f"SSIM needs frames of at least {WINDOW} x {WINDOW} pixels, not {H} x {W}")
    x, y = (v.double().transpose(1, 2).flatten(0, 2).unsqueeze(1) for v in (reconstruction, video))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x.square()
    var_y = _blur(y * y) - mean_y.square()
    cov = _blur(x * y) - mean_x * mean_y
    c1, c2 = (K1 * 2) ** 2, (K2 * 2) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / (
        (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    )
    return similarity.reshape(B, T, -1).mean(2).float()


def _decibels(error: Tensor) -> Tensor:
    """Return mean squared errors against the range of 2, whose square is 4."""
    return (10 * torch.log10(4 / error)).float()


def _blur(x: Tensor) -> Tensor:
    """Convolve (N, 1, H, W) with the Gaussian window, without padding."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    window = torch.exp(-offsets.square() / (2 * SIGMA**2))
    window = window / window.sum()
    return F.conv2d(F.conv2d(x, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
