"""The blocks that encoder and decoder are built from.

Each takes the next frames of a clip and what it knows of the earlier ones, its `Memory`; without
one its input is a whole clip.

Legend: B batch, C channels, T frames, H W positions.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.autoencoder.config import AutoencoderConfig
from video_models.layers.causal_conv import CausalConv3d, fold_frames, pointwise, unfold_frames
from video_models.layers.channel_norm import ChannelNorm
from video_models.layers.memory import Memory
from video_models.layers.resample import Downsample, Upsample


class ResidualBlock(nn.Module):
    """Two causal convolutions behind norm and SiLU, added to the input."""

    def __init__(self, in_dim: int, out_dim: int, config: AutoencoderConfig):
        super().__init__()
        self.norm1 = ChannelNorm(in_dim, num_axes=3)
        self.conv1 = CausalConv3d(in_dim, out_dim, config.kernel)
        self.norm2 = ChannelNorm(out_dim, num_axes=3)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = CausalConv3d(out_dim, out_dim, config.kernel)
        self.conv_shortcut = (
            CausalConv3d(in_dim, out_dim, 1) if in_dim != out_dim else nn.Identity()
        )

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return (B, C_out, T, H, W)."""
        h = self.conv1(x, memory, partial(self.norm1, silu=True))
        if self.training and self.dropout.p:
            h = self.conv2(self.dropout(self.norm2(h, silu=True)), memory)
        else:
            h = self.conv2(h, memory, partial(self.norm2, silu=True))
        return add(h, self.conv_shortcut(x))


class FrameAttention(nn.Module):
    """Attention of every position to all positions of its own frame, with one head."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = ChannelNorm(dim, num_axes=2)
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x's shape."""
        frames = self.norm(fold_frames(x))  # (B T, C, H, W)
        mixed = pointwise(frames, self.to_qkv.weight, self.to_qkv.bias)
        qkv = mixed.flatten(2).transpose(1, 2)[:, None]  # (B T, 1 head, H W, 3 C)
        q, k, v = qkv.chunk(3, dim=-1)
        out = F.scaled_dot_product_attention(q, k, v)
        out = torch.unflatten(out[:, 0].transpose(1, 2), 2, frames.shape[2:])  # (B T, C, H, W)
        return x + unfold_frames(pointwise(out, self.proj.weight, self.proj.bias), x.shape[0])


class MidBlock(nn.Module):
    """Residual block, attention, residual block: the bottom of both halves."""

    def __init__(self, dim: int, config: AutoencoderConfig):
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(dim, dim, config) for _ in range(2))
        self.attentions = nn.ModuleList([FrameAttention(dim)])

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return x's shape."""
        x = self.attentions[0](self.resnets[0](x, memory))
        mixed: Tensor = self.resnets[1](x, memory)
        return mixed


def add(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y, in x's place where no gradient can miss it; x is nobody else's."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def block_names(model: nn.Module) -> tuple[str, ...]:
    """Name the blocks to recompute in the backward pass, to shard and to compile."""
    kinds = (ResidualBlock, MidBlock, Downsample, Upsample)
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    return tuple(name for name in names if ".mid_block." not in name)
