"""The way down: a video to the moments of its latents.

Given a `Memory`, it goes on with the clip that the memory knows; frames that do not make a whole
latent frame yet wait there.

Legend: B batch, C channels, T frames, H W positions.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from video_models.autoencoder.blocks import MidBlock, ResidualBlock, add
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.switches import convolution, downsampler, entry_down, norm
from video_models.layers.memory import Memory, Stage, flow
from video_models.layers.resample import average_down, whole_groups
from video_models.layers.shuffle_resample import group_mean


class DownBlock(nn.Module):
    """A level of HunyuanVideo: residual blocks, then a resampler."""

    def __init__(self, config: AutoencoderConfig, level: int):
        super().__init__()
        self.resnets = _resnets(config, level)
        self.downsamplers = nn.ModuleList(downsampler(config, level))

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return the level's output, smaller by its resampler."""
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x, memory)
        return x


class ShortcutDownBlock(nn.Module):
    """A level of Wan 2.2: residual blocks and resampler beside an average of the input."""

    def __init__(self, config: AutoencoderConfig, level: int):
        super().__init__()
        self.out_dim = config.dims[level]
        self.resnets = _resnets(config, level)
        space, time = config.shrinkage(level)
        self.space, self.time = 1 + space, 1 + time
        self.downsampler = next(iter(downsampler(config, level)), None)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return the level's output, smaller by its resampler."""
        groups = whole_groups(x, self, self.time, memory)
        for block in self.resnets:
            x = block(x, memory)
        if self.downsampler is not None:
            x = self.downsampler(x, memory)
        if not x.shape[2]:
            return x
        return add(x, average_down(groups, self.out_dim, time=self.time, space=self.space))


class Encoder(nn.Module):
    """Levels of residual blocks with resamplers between them, then the middle, then the head.

    Args:
        config: sizes.
        out_channels: channels that the head writes; two numbers a latent for a posterior.
    """

    def __init__(self, config: AutoencoderConfig, *, out_channels: int):
        super().__init__()
        dims = config.dims
        in_channels = config.channels * config.patch_size**2
        self.conv_in = convolution(in_channels, config.base_dim, config)
        self.down_blocks = nn.ModuleList()
        for level in range(len(dims)):
            self.down_blocks.extend(_level(config, level))
        self.mid_block = MidBlock(dims[-1], config)
        self.norm_out = norm(dims[-1], config, num_axes=3)
        self.conv_out = convolution(dims[-1], out_channels, config)
        self.has_shortcut = config.resampler == "shuffle"

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C_out, T', H', W') of folded pixels (B, C p p, T, H, W), a whole clip."""
        return torch.cat([*self.stream(x, None)], dim=2)

    def stream(self, x: Tensor, memory: Memory | None) -> Iterator[Tensor]:
        """Yield what the next frames of a clip complete, in pieces; perhaps nothing."""
        return flow((*self.descent, *self.bottom), x, memory)

    @property
    def descent(self) -> tuple[Stage, ...]:
        """The stages that shrink frames; an output sees a neighbourhood only."""
        return (self.conv_in, *self.down_blocks)

    @property
    def bottom(self) -> tuple[Stage, ...]:
        """The stages behind them; an output sees its whole frame."""
        return (self.mid_block, self._head)

    def _head(self, x: Tensor, memory: Memory | None) -> Tensor:
        head: Tensor = self.conv_out(x, memory, partial(self.norm_out, silu=True))
        return add(head, group_mean(x, head.shape[1])) if self.has_shortcut else head


def _level(config: AutoencoderConfig, level: int) -> list[nn.Module]:
    """Build one level; Wan 2.1's checkpoints number plain blocks in one row."""
    if config.residual_resampling:
        return [ShortcutDownBlock(config, level)]
    block = DownBlock(config, level)
    return [*block.resnets, *block.downsamplers] if config.resampler == "wan" else [block]


def _resnets(config: AutoencoderConfig, level: int) -> nn.ModuleList:
    in_dim, out_dim = entry_down(config, level), config.dims[level]
    return nn.ModuleList(
        ResidualBlock(in_dim if i == 0 else out_dim, out_dim, config)
        for i in range(config.num_res_blocks)
    )
