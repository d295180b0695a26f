"""The 3-D causal video autoencoder.

Wan's design (Wan Team 2025, arXiv 2503.20314): the first frame alone, then groups of frames, and
nothing ever sees a later frame, so an image is a clip of one frame and a clip can be cut and
continued anywhere: `encode_stream` and `decode_stream` take clips of any length in chunks. With
`config` and weights of a published checkpoint it computes what that model computes.

Legend: B batch, C channels, T frames, H W pixels; z, T', H', W' the same of latents.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from video_models.autoencoder.blocks import block_names
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.decoder import Decoder
from video_models.autoencoder.encoder import Encoder
from video_models.autoencoder.posterior import Posterior
from video_models.autoencoder.streaming import (
    check_channels,
    decode_chunks,
    decode_clip,
    encode_chunks,
    encode_clip,
)
from video_models.layers.causal_conv import CausalConv3d


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
        size = config.latent_channels
        self.encoder = Encoder(config, out_channels=2 * size)
        self.quant_conv = _latent_conv(2 * size, config)
        _start_narrow(self.quant_conv if config.latent_convs else self.encoder.conv_out)
        self.post_quant_conv = _latent_conv(size, config)
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
        return self.posterior(encode_clip(self.encoder, video, self.config))

    def decode(self, latents: Tensor) -> Tensor:
        """Return the video (B, C, T, H, W), not clamped, of latents that are not normalised.

        Raises:
            ValueError: the latents' number of channels does not fit.
        """
        check_channels(latents, self.config.latent_channels, "latents have")
        return decode_clip(self.decoder, self.post_quant_conv(latents), self.config)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Posterior]:
        """Encode a clip of any length that comes in chunks; yield `encode`'s law of it in parts.

        No more than one chunk and a few frames of each layer are held. A part comes as soon as a
        chunk completes a latent frame. No gradients.

        Args:
            chunks: (B, C, t, H, W) in [-1, 1] each, of any numbers t of frames that make
                1 + temporal_factor * n together.

        Raises:
            ValueError: a chunk's shape, or at the end the number of frames, does not fit.
        """
        for moments in encode_chunks(self.encoder, chunks, self.config):
            yield self.posterior(moments)

    @torch.no_grad()
    def decode_stream(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """Decode latents of a clip of any length that come in chunks (B, z, t', H', W').

        Yields `decode`'s video of them in parts (B, C, t, H, W), one a chunk. No gradients.

        Raises:
            ValueError: a chunk's shape does not fit.
        """

        def mixed() -> Iterator[Tensor]:
            for chunk in latents:
                check_channels(chunk, self.config.latent_channels, "latents have")
                yield self.post_quant_conv(chunk)

        yield from decode_chunks(self.decoder, mixed(), self.config)

    def posterior(self, moments: Tensor) -> Posterior:
        """Return the law that the encoder's output (B, 2 z, T', H', W') stands for."""
        return Posterior.from_moments(self.quant_conv(moments).contiguous())

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
        return block_names(self)

    def _fill_normalisation(self) -> None:
        mean, std = self.config.latents_mean, self.config.latents_std
        size = self.config.latent_channels
        self.latent_mean.copy_(torch.tensor(mean or (0.0,) * size))
        self.latent_std.copy_(torch.tensor(std or (1.0,) * size))


def _latent_conv(dim: int, config: AutoencoderConfig) -> nn.Module:
    return CausalConv3d(dim, dim, 1) if config.latent_convs else nn.Identity()


def _start_narrow(conv: nn.Module) -> None:
    """Start with a posterior that is narrow everywhere: noise would drown the first small means."""
    assert isinstance(conv, CausalConv3d), f"moments come from a {type(conv).__name__}"  # noqa: S101
    logvar = slice(conv.out_channels // 2, None)
    with torch.no_grad():
        conv.weight[logvar] *= 0.1
        if conv.bias is not None:
            conv.bias[logvar] -= 4
