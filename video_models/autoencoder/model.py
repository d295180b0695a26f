"""The 3-D causal video autoencoder.

Wan's design (Wan Team 2025, arXiv 2503.20314): the first frame alone, then groups of frames, and
nothing ever sees a later frame, so an image is a clip of one frame and a clip can be cut and
continued anywhere. With `config` and weights of a published checkpoint it computes what that model
computes; whole clips are computed at once instead of chunk by chunk.

Legend: B batch, C channels, T frames, H W pixels; z, T', H', W' the same of latents.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from video_models.autoencoder.blocks import MidBlock, ResidualBlock
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.decoder import Decoder
from video_models.autoencoder.encoder import Encoder
from video_models.autoencoder.posterior import Posterior
from video_models.layers.causal_conv import CausalConv3d
from video_models.layers.patches import fold_patches, unfold_patches
from video_models.layers.resample import Downsample, Upsample


class Autoencoder(nn.Module):
    """Encodes videos into small latents and decodes latents into videos.

    Attributes:
        config: what it was built from, its normalisation included.
        latent_mean: mean of each latent channel, (z,).
        latent_std: standard deviation of each latent channel, (z,).
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, out_channels=2 * config.latent_channels)
        self.quant_conv = CausalConv3d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        _start_narrow(self.quant_conv)
        self.post_quant_conv = CausalConv3d(config.latent_channels, config.latent_channels, 1)
        self.decoder = Decoder(config)
        # The config owns these numbers; as weights they would change the fingerprint.
        for name in ("latent_mean", "latent_std"):
            self.register_buffer(name, torch.empty(config.latent_channels), persistent=False)
        self._fill_normalisation()

    def forward(self, video: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Posterior]:
        """Return the reconstruction, not clamped, and the posterior that it was drawn from.

        Args:
            video: (B, C, T, H, W) in [-1, 1].
            noise: standard normal, of the latents' shape; None decodes the posterior's mean.
        """
        posterior = self.encode(video)
        latents = posterior.mode() if noise is None else posterior.at(noise)
        return self.decode(latents), posterior

    def encode(self, video: Tensor) -> Posterior:
        """Return the law of the latents (B, z, T', H', W'), not normalised.

        Args:
            video: (B, C, T, H, W) in [-1, 1], with 1 + temporal_factor * n frames.

        Raises:
            ValueError: the number of channels, of frames, the height or the width does not fit.
        """
        if video.ndim != 5 or video.shape[1] != self.config.channels:
            raise ValueError(
                f"a video has shape (B, {self.config.channels}, T, H, W), got {tuple(video.shape)}"
            )
        self.config.latent_shape(*video.shape[2:])
        x = fold_patches(video, self.config.patch_size)
        x = x.contiguous(memory_format=torch.channels_last_3d)
        return Posterior.from_moments(self.quant_conv(self.encoder(x)).contiguous())

    def decode(self, latents: Tensor) -> Tensor:
        """Return the video (B, C, T, H, W), not clamped, of latents that are not normalised.

        Raises:
            ValueError: the latents' number of channels does not fit.
        """
        if latents.ndim != 5 or latents.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"latents have shape (B, {self.config.latent_channels}, T, H, W), "
                f"got {tuple(latents.shape)}"
            )
        z = latents.contiguous(memory_format=torch.channels_last_3d)
        pixels = self.decoder(self.post_quant_conv(z))
        return unfold_patches(pixels, self.config.patch_size).contiguous()

    def normalise(self, latents: Tensor) -> Tensor:
        """Bring latents (..., z, T', H', W') to mean 0 and standard deviation 1 a channel."""
        return (latents - self.latent_mean.view(-1, 1, 1, 1)) / self.latent_std.view(-1, 1, 1, 1)

    def denormalise(self, latents: Tensor) -> Tensor:
        """Undo `normalise`."""
        return latents * self.latent_std.view(-1, 1, 1, 1) + self.latent_mean.view(-1, 1, 1, 1)

    def set_normalisation(self, mean: Iterable[float], std: Iterable[float]) -> None:
        """Store the statistics of a dataset's latents, one number a channel.

        Raises:
            ValueError: it is not one number a channel, or a deviation is not positive.
        """
        self.config = replace(
            self.config,
            latents_mean=tuple(float(value) for value in mean),
            latents_std=tuple(float(value) for value in std),
        )
        self._fill_normalisation()

    def block_names(self) -> tuple[str, ...]:
        """Name the blocks to recompute in the backward pass, to shard and to compile."""
        kinds = (ResidualBlock, MidBlock, Downsample, Upsample)
        names = [name for name, module in self.named_modules() if isinstance(module, kinds)]
        return tuple(name for name in names if ".mid_block." not in name)

    def _fill_normalisation(self) -> None:
        mean, std = self.config.latents_mean, self.config.latents_std
        size = self.config.latent_channels
        self.latent_mean.copy_(torch.tensor(mean or (0.0,) * size))
        self.latent_std.copy_(torch.tensor(std or (1.0,) * size))


def _start_narrow(quant_conv: CausalConv3d) -> None:
    """Start with a posterior that is narrow everywhere: noise would drown the first small means."""
    logvar = slice(quant_conv.out_channels // 2, None)
    with torch.no_grad():
        quant_conv.weight[logvar] *= 0.1
        if quant_conv.bias is not None:
            quant_conv.bias[logvar] -= 4
