"""Fold squares of pixels into channels and back.

Legend: B batch, C channels, T frames, H W pixels, p side of a square.
"""

import torch
from torch import Tensor


def fold_patches(video: Tensor, patch_size: int) -> Tensor:
    """(B, C, T, H, W) -> (B, C p p, T, H / p, W / p); channels in the order (C, column, row)."""
    if patch_size == 1:
        return video
    p = patch_size
    x = torch.unflatten(torch.unflatten(video, 4, (-1, p)), 3, (-1, p))  # (B, C, T, H/p, p, W/p, p)
    return x.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)


def unfold_patches(x: Tensor, patch_size: int) -> Tensor:
    """(B, C p p, T, H, W) -> (B, C, T, H p, W p); undoes `fold_patches`."""
    if patch_size == 1:
        return x
    p = patch_size
    x = torch.unflatten(x, 1, (-1, p, p))  # (B, C, column, row, T, H, W)
    return x.permute(0, 1, 4, 5, 3, 6, 2).flatten(5, 6).flatten(3, 4)
