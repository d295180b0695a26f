"""The way up: latents to a video.

Given a `Memory`, it goes on with the clip that the memory knows.

Legend: B batch, C channels, T frames, H W positions.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from video_models.autoencoder.blocks import MidBlock, ResidualBlock, add
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.encoder import resampling
from video_models.layers.causal_conv import CausalConv3d
from video_models.layers.channel_norm import ChannelNorm
from video_models.layers.memory import Memory, Stage, begins, flow
from video_models.layers.resample import Upsample, repeat_up


class UpBlock(nn.Module):
    """A level of Wan 2.1: residual blocks, then a resampler that halves the channels."""

    def __init__(self, in_dim: int, out_dim: int, config: AutoencoderConfig, *, level: int):
        super().__init__()
        self.resnets = _resnets(in_dim, out_dim, config)
        space, time = _growth(config, level)
        upsampler = Upsample(out_dim, out_dim // 2, space=space, time=time)
        self.upsamplers = nn.ModuleList([upsampler] if space or time else [])

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return the level's output, larger by its resampler."""
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x, memory)
        return x


class ShortcutUpBlock(nn.Module):
    """A level of Wan 2.2: residual blocks and resampler beside a repetition of the input."""

    def __init__(self, in_dim: int, out_dim: int, config: AutoencoderConfig, *, level: int):
        super().__init__()
        self.out_dim = out_dim
        self.resnets = _resnets(in_dim, out_dim, config)
        space, time = _growth(config, level)
        self.space, self.time = 1 + space, 1 + time
        self.upsampler = (
            Upsample(out_dim, out_dim, space=space, time=time) if space or time else None
        )

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return the level's output, larger by its resampler; the last level has no shortcut."""
        entry = x
        for block in self.resnets:
            x = block(x, memory)
        if self.upsampler is None:
            return x
        shortcut = repeat_up(entry, self.out_dim, time=self.time, space=self.space)
        if begins(memory, self):  # the first frame stays one
            shortcut = shortcut[:, :, self.time - 1 :]
        return add(self.upsampler(x, memory), shortcut)


class Decoder(nn.Module):
    """The middle, then levels of residual blocks with resamplers between them, then the head."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        mults = config.dim_mult[::-1]
        dims = [config.width_up * mult for mult in (mults[0], *mults)]
        self.conv_in = CausalConv3d(config.latent_channels, dims[0], config.kernel)
        self.mid_block = MidBlock(dims[0], config)
        block = ShortcutUpBlock if config.residual_resampling else UpBlock
        halved = 1 if config.residual_resampling else 2
        self.up_blocks = nn.ModuleList(
            block(in_dim if level == 0 else in_dim // halved, out_dim, config, level=level)
            for level, (in_dim, out_dim) in enumerate(pairwise(dims))
        )
        self.norm_out = ChannelNorm(dims[-1], num_axes=3)
        self.conv_out = CausalConv3d(
            dims[-1], config.channels * config.patch_size**2, config.kernel
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return folded pixels (B, C p p, T, H, W) of latents (B, z, T', H', W'), a whole clip."""
        return torch.cat([*self.stream(z, None)], dim=2)

    def stream(self, z: Tensor, memory: Memory | None) -> Iterator[Tensor]:
        """Yield the folded pixels that the next latents of a clip become, in pieces."""
        return flow((*self.bottom, *self.ascent), z, memory)

    @property
    def bottom(self) -> tuple[Stage, ...]:
        """The stages before frames grow; an output sees its whole frame."""
        return (self.conv_in, self.mid_block)

    @property
    def ascent(self) -> tuple[Stage, ...]:
        """The stages that make frames grow; an output sees a neighbourhood only."""
        return (*self.up_blocks, self._head)

    def _head(self, x: Tensor, memory: Memory | None) -> Tensor:
        pixels: Tensor = self.conv_out(x, memory, partial(self.norm_out, silu=True))
        return pixels


def _resnets(in_dim: int, out_dim: int, config: AutoencoderConfig) -> nn.ModuleList:
    return nn.ModuleList(
        ResidualBlock(in_dim if i == 0 else out_dim, out_dim, config)
        for i in range(config.num_res_blocks + 1)
    )


def _growth(config: AutoencoderConfig, level: int) -> tuple[bool, bool]:
    """Say whether the resampler behind a decoder level changes space and time."""
    behind = len(config.dim_mult) - 2 - level  # the encoder level whose resampler it undoes
    return (False, False) if behind < 0 else resampling(config, behind)
