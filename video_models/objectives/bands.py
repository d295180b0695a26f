"""Errors by scale: a Laplacian pyramid in space and wavelets in space and time.

Both decompositions are linear, so they are taken of the difference between reconstruction and
video. They stand in for a perceptual network where none can be had.

Legend: B batch, C channels, T frames, H W rows and columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LAPLACIAN_LEVELS = 4
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def laplacian_error(difference: Tensor) -> Tensor:
    """Return the absolute error in each band of a Laplacian pyramid, summed over bands; (B,).

    Bojanowski et al. 2018 (arXiv 1707.05776), equation 3: with a mean over the pixels of each band,
    its weights 4^j are those of the sums. An edge that is blurred misses energy in all bands, where
    a plain absolute error sees a few pixels.

    Args:
        difference: (B, C, T, H, W).
    """
    rest = difference.transpose(1, 2).flatten(0, 1)  # (B T, C, H, W)
    total = difference.new_zeros(difference.shape[0])
    for _ in range(LAPLACIAN_LEVELS - 1):
        if min(rest.shape[-2:]) < 4:
            break
        smooth = _blur(rest)
        total = total + _mean_size(rest - smooth, len(difference))
        rest = smooth[..., ::2, ::2]
    return total + _mean_size(rest, len(difference))


def wavelet_error(difference: Tensor) -> Tensor:
    """Return the absolute error over the eight bands of a 3-D Haar transform, a mean; (B,).

    HaCohen et al. 2024 (LTX-Video, arXiv 2501.00103), section 3.1.

    Args:
        difference: (B, C, T, H, W).
    """
    return haar_bands(difference).abs().flatten(1).mean(1)


def haar_bands(video: Tensor) -> Tensor:
    """Return one level of the orthonormal Haar transform, (B, 8, C, T / 2, H / 2, W / 2).

    The first of the eight bands is low in every direction; the next differ in columns, then rows,
    then frames. An odd number of frames, rows or columns is made even by repeating the first one,
    as the first frame stands for itself in a causal autoencoder.
    """
    bands = video.unsqueeze(1)
    for dim in (3, 4, 5):
        if bands.shape[dim] % 2:
            bands = torch.cat((bands.narrow(dim, 0, 1), bands), dim=dim)
        first, second = torch.unflatten(bands, dim, (-1, 2)).unbind(dim + 1)
        low, high = (first + second) * 0.5**0.5, (first - second) * 0.5**0.5
        bands = torch.stack((low, high), dim=2).flatten(1, 2)
    return bands


def _blur(frames: Tensor) -> Tensor:
    """Smooth (N, C, H, W) by the binomial kernel of five pixels, edges repeated."""
    channels = frames.shape[1]
    kernel = frames.new_tensor(BINOMIAL)
    column = kernel.view(1, 1, 5, 1).expand(channels, 1, 5, 1)
    x = F.conv2d(F.pad(frames, (0, 0, 2, 2), mode="replicate"), column, groups=channels)
    x = F.pad(x, (2, 2, 0, 0), mode="replicate")
    return F.conv2d(x, column.transpose(2, 3), groups=channels)


def _mean_size(band: Tensor, batch: int) -> Tensor:
    return band.abs().reshape(batch, -1).mean(1)
