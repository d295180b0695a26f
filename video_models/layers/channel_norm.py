"""Root-mean-square norm over channels: each position by itself, so causality and chunks hold.

Legend: B batch, C channels, T frames, H W pixels.
"""

import torch
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Scale each position's channel vector to root mean square 1, then by a learned gain.

    Half precision is normalised in float32 and scaled in its own type.
    """

    def __init__(self, dim: int, *, num_axes: int):
        """Build it.

        Args:
            dim: channels.
            num_axes: axes behind the channels, 3 for (T, H, W) and 2 for (H, W).
        """
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, *[1] * num_axes))

    def forward(self, x: Tensor) -> Tensor:
        """Return x's shape and type."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        length = torch.linalg.vector_norm(wide, dim=1, keepdim=True).clamp_min(1e-12)
        unit = (wide * (x.shape[1] ** 0.5 / length)).type_as(x)
        scaled: Tensor = unit * self.gamma
        return scaled
