"""Attention between the residual blocks at the bottom: over frames apart, or over the clip so far.

Legend: B batch, C channels, T frames, H W positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.switches import norm
from video_models.layers.causal_conv import fold_frames, pointwise, unfold_frames
from video_models.layers.memory import Memory


class FrameAttention(nn.Module):
    """Attention of every position to all positions of its own frame, with one head."""

    def __init__(self, dim: int, config: AutoencoderConfig):
        super().__init__()
        self.norm = norm(dim, config, num_axes=2)
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return x's shape."""
        frames = self.norm(fold_frames(x))  # (B T, C, H, W)
        mixed = pointwise(frames, self.to_qkv.weight, self.to_qkv.bias)
        qkv = mixed.flatten(2).transpose(1, 2)[:, None]  # (B T, 1 head, H W, 3 C)
        q, k, v = qkv.chunk(3, dim=-1)
        out = F.scaled_dot_product_attention(q, k, v)
        out = torch.unflatten(out[:, 0].transpose(1, 2), 2, frames.shape[2:])  # (B T, C, H, W)
        return x + unfold_frames(pointwise(out, self.proj.weight, self.proj.bias), x.shape[0])


class ClipAttention(nn.Module):
    """Attention of every position to its own frame and all earlier ones, with one head.

    A memory keeps keys and values of all frames, so it grows with the clip.
    """

    def __init__(self, dim: int, config: AutoencoderConfig):
        super().__init__()
        self.norm = norm(dim, config, num_axes=3)
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return x's shape."""
        _, C, T, H, W = x.shape
        mixed = pointwise(self.norm(x), self.to_qkv.weight, self.to_qkv.bias)
        q, kv = mixed.tensor_split([C], dim=1)
        if memory is not None:
            kv = memory.waiting(self, kv)
            memory.put_back(self, kv)
        earlier = kv.shape[2] - T
        q, kv = (y.movedim(1, -1).flatten(2, 3)[:, None] for y in (q, kv))  # (B, 1, T, H W, C)
        frames = []
        for frame in range(T):
            k, v = kv[:, :, : earlier + frame + 1].flatten(2, 3).chunk(2, dim=-1)
            frames.append(F.scaled_dot_product_attention(q[:, :, frame], k, v))
        out = torch.unflatten(torch.stack(frames, dim=2)[:, 0], 2, (H, W)).movedim(-1, 1)
        return x + pointwise(out, self.proj.weight, self.proj.bias)
