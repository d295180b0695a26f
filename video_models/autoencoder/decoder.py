"""The way up: latents to a video.

Given a `Memory`, it goes on with the clip that the memory knows.

Legend: B batch, C channels, T frames, H W positions.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from video_models.autoencoder.blocks import MidBlock, ResidualBlock, add
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.switches import convolution, entry_up, norm, upsampler
from video_models.layers.memory import Memory, Stage, begins, flow
from video_models.layers.resample import repeat_up
from video_models.layers.shuffle_resample import repeat_to


class UpBlock(nn.Module):
    """A level of Wan 2.1 or HunyuanVideo: residual blocks, then a resampler."""

    def __init__(self, config: AutoencoderConfig, level: int):
        super().__init__()
        self.resnets = _resnets(config, level)
        self.upsamplers = nn.ModuleList(upsampler(config, level))

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Return the level's output, larger by its resampler."""
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x, memory)
        return x


class ShortcutUpBlock(nn.Module):
    """A level of Wan 2.2: residual blocks and resampler beside a repetition of the input."""

    def __init__(self, config: AutoencoderConfig, level: int):
        super().__init__()
        self.out_dim = config.dims_up[level]
        self.resnets = _resnets(config, level)
        space, time = config.growth(level)
        self.space, self.time = 1 + space, 1 + time
        self.upsampler = next(iter(upsampler(config, level)), None)

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
        dims = config.dims_up
        self.conv_in = convolution(config.latent_channels, dims[0], config)
        self.mid_block = MidBlock(dims[0], config)
        block = ShortcutUpBlock if config.residual_resampling else UpBlock
        self.up_blocks = nn.ModuleList(block(config, level) for level in range(len(dims)))
        self.norm_out = norm(dims[-1], config, num_axes=3)
        self.conv_out = convolution(dims[-1], config.channels * config.patch_size**2, config)
        self.has_shortcut = config.resampler == "shuffle"

    def forward(self, z: Tensor) -> Tensor:
        """Return folded pixels (B, C p p, T, H, W) of latents (B, z, T', H', W'), a whole clip."""
        return torch.cat([*self.stream(z, None)], dim=2)

    def stream(self, z: Tensor, memory: Memory | None) -> Iterator[Tensor]:
        """Yield the folded pixels that the next latents of a clip become, in pieces."""
        return flow((*self.bottom, *self.ascent), z, memory)

    @property
    def bottom(self) -> tuple[Stage, ...]:
        """The stages before frames grow; an output sees its whole frame."""
        return (self._foot, self.mid_block)

    @property
    def ascent(self) -> tuple[Stage, ...]:
        """The stages that make frames grow; an output sees a neighbourhood only."""
        return (*self.up_blocks, self._head)

    def _foot(self, z: Tensor, memory: Memory | None) -> Tensor:
        foot: Tensor = self.conv_in(z, memory)
        return add(foot, repeat_to(z, foot.shape[1])) if self.has_shortcut else foot

    def _head(self, x: Tensor, memory: Memory | None) -> Tensor:
        pixels: Tensor = self.conv_out(x, memory, partial(self.norm_out, silu=True))
        return pixels


def _resnets(config: AutoencoderConfig, level: int) -> nn.ModuleList:
    in_dim, out_dim = entry_up(config, level), config.dims_up[level]
    return nn.ModuleList(
        ResidualBlock(in_dim if i == 0 else out_dim, out_dim, config)
        for i in range(config.num_res_blocks + 1)
    )
