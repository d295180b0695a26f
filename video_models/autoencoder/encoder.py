"""The way down: a video to the moments of its latents.

Given a `Memory`, it goes on with the clip that the memory knows; frames that do not make a whole
latent frame yet wait there.

Legend: B batch, C channels, T frames, H W positions.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from video_models.autoencoder.blocks import MidBlock, ResidualBlock, add
from video_models.autoencoder.config import AutoencoderConfig
from video_models.layers.causal_conv import CausalConv3d
from video_models.layers.channel_norm import ChannelNorm
from video_models.layers.memory import Memory, Stage, flow
from video_models.layers.resample import Downsample, average_down, whole_groups


class ShortcutDownBlock(nn.Module):
    """A level of Wan 2.2: residual blocks and resampler beside an average of the input."""

    def __init__(self, in_dim: int, out_dim: int, config: AutoencoderConfig, *, level: int):
        super().__init__()
        self.out_dim = out_dim
        self.resnets = nn.ModuleList(
            ResidualBlock(in_dim if i == 0 else out_dim, out_dim, config)
            for i in range(config.num_res_blocks)
        )
        space, time = resampling(config, level)
        self.space, self.time = 1 + space, 1 + time
        self.downsampler = Downsample(out_dim, space=space, time=time) if space or time else None

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
        dims = [config.base_dim * mult for mult in (1, *config.dim_mult)]
        in_channels = config.channels * config.patch_size**2
        self.conv_in = CausalConv3d(in_channels, dims[0], config.kernel)
        self.down_blocks = nn.ModuleList()
        for level, (in_dim, out_dim) in enumerate(pairwise(dims)):
            self.down_blocks.extend(_level(config, in_dim, out_dim, level=level))
        self.mid_block = MidBlock(dims[-1], config)
        self.norm_out = ChannelNorm(dims[-1], num_axes=3)
        self.conv_out = CausalConv3d(dims[-1], out_channels, config.kernel)

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
        return head


def resampling(config: AutoencoderConfig, level: int) -> tuple[bool, bool]:
    """Say whether the resampler behind an encoder level changes space and time."""
    if level == len(config.dim_mult) - 1:
        return False, False
    return config.space_down[level], config.time_down[level]


def _level(config: AutoencoderConfig, in_dim: int, out_dim: int, *, level: int) -> list[nn.Module]:
    """Build one level; published checkpoints number plain blocks in one row."""
    if config.residual_resampling:
        return [ShortcutDownBlock(in_dim, out_dim, config, level=level)]
    blocks: list[nn.Module] = [
        ResidualBlock(in_dim if i == 0 else out_dim, out_dim, config)
        for i in range(config.num_res_blocks)
    ]
    space, time = resampling(config, level)
    if space or time:
        blocks.append(Downsample(out_dim, space=space, time=time))
    return blocks
