"""Group norm of a video: over each frame by itself, or over the whole clip.

Over frames, a frame's numbers depend on no other frame; over the clip they depend on all, later
ones too.

Legend: B batch, C channels, T frames, H W positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.causal_conv import fold_frames, unfold_frames


class GroupNorm(nn.GroupNorm):
    """Bring groups of channels to mean 0 and variance 1, then scale and shift each channel."""

    def __init__(self, dim: int, *, num_groups: int, per_frame: bool):
        super().__init__(num_groups, dim, eps=1e-6)
        self.per_frame = per_frame

    def forward(self, x: Tensor, *, silu: bool = False, out: Tensor | None = None) -> Tensor:
        """Return x's shape and type.

        Args:
            x: (B, C, T, H, W), or images (B, C, H, W).
            silu: whether SiLU follows.
            out: where to write; without gradients only.
        """
        if self.per_frame and x.ndim == 5:
            y = unfold_frames(super().forward(fold_frames(x)), x.shape[0])
        else:
            y = super().forward(x)
        if silu:
            y = F.silu(y, inplace=not torch.is_grad_enabled())
        return y if out is None else out.copy_(y)
