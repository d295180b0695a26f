"""The blocks that encoder and decoder are built from.

Each takes the next frames of a clip and what it knows of the earlier ones, its `Memory`; without
one its input is a whole clip.

Legend: B batch, C channels, T frames, H W positions.
"""

from functools import partial

import torch
from torch import Tensor, nn

from video_models.autoencoder.attention import ClipAttention, FrameAttention
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.switches import RESAMPLERS, convolution, norm
from video_models.layers.causal_conv import CausalConv3d
from video_models.layers.memory import Memory


class ResidualBlock(nn.Module):
    """Two causal convolutions behind norm and SiLU, added to the input."""

    def __init__(self, in_dim: int, out_dim: int, config: AutoencoderConfig):
        super().__init__()
        self.norm1 = norm(in_dim, config, num_axes=3)
        self.conv1 = convolution(in_dim, out_dim, config)
        self.norm2 = norm(out_dim, config, num_axes=3)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = convolution(out_dim, out_dim, config)
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


class MidBlock(nn.Module):
    """Residual block, attention, residual block: the bottom of both halves."""

    def __init__(self, dim: int, config: AutoencoderConfig):
        super().__init__()
        attention = FrameAttention if config.mid_attention == "frame" else ClipAttention
        self.resnets = nn.ModuleList(ResidualBlock(dim, dim, config) for _ in range(2))
        self.attentions = nn.ModuleList([attention(dim, config)])

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return x's shape."""
        x = self.attentions[0](self.resnets[0](x, memory), memory)
        mixed: Tensor = self.resnets[1](x, memory)
        return mixed


def add(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y, in x's place where no gradient can miss it; x is nobody else's."""
    return x + y if torch.is_grad_enabled() else x.add_(y)


def block_names(model: nn.Module) -> tuple[str, ...]:
    """Name the blocks to recompute in the backward pass, to shard and to compile."""
    kinds = (ResidualBlock, MidBlock, *RESAMPLERS)
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    return tuple(name for name in names if ".mid_block." not in name)
