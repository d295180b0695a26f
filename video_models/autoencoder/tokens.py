"""The discrete video autoencoder: videos to tokens, tokens to videos.

The encoder and the decoder are the continuous autoencoder's (`model.py`), with a codebook in place
of the normal law between them: VQ-VAE, FSQ or LFQ by config, and VQ-GAN by training with a
discriminator. It is causal as they are: an image is a clip of one frame.

Legend: B batch, C channels, T frames, H W pixels; T', H', W' the same of latents, D numbers in a
code.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from video_models.autoencoder.blocks import block_names
from video_models.autoencoder.decoder import Decoder
from video_models.autoencoder.encoder import Encoder
from video_models.autoencoder.quantiser_config import TokenAutoencoderConfig
from video_models.autoencoder.quantisers import Quantised, Reduce, alone, open_quantiser
from video_models.autoencoder.streaming import (
    check_channels,
    decode_chunks,
    decode_clip,
    encode_chunks,
    encode_clip,
)
from video_models.layers.causal_conv import CausalConv3d


class TokenAutoencoder(nn.Module):
    """Encodes videos into a grid of tokens and decodes tokens into videos.

    Attributes:
        config: what it was built from.
        codebook_size: tokens are integers in [0, codebook_size).
    """

    def __init__(self, config: TokenAutoencoderConfig):
        super().__init__()
        self.config = config
        width = config.backbone.latent_channels
        dim = config.quantiser.dim(width)
        self.encoder = Encoder(config.backbone, out_channels=width)
        self.quant_conv = CausalConv3d(width, dim, 1)
        self.quantiser = open_quantiser(config.quantiser, width)
        self.post_quant_conv = CausalConv3d(dim, width, 1)
        self.decoder = Decoder(config.backbone)

    def forward(self, video: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Quantised]:
        """Return the reconstruction, not clamped, and the codes that it was decoded from.

        Args:
            video: (B, C, T, H, W) in [-1, 1].
            noise: not used; the continuous autoencoder takes it here.
        """
        code = self.encode(video)
        return self.decode(code.latents), code

    def encode(self, video: Tensor) -> Quantised:
        """Return the codes of a video, (B, D, T', H', W') and their indices.

        Args:
            video: (B, C, T, H, W) in [-1, 1], with 1 + temporal_factor * n frames.

        Raises:
            ValueError: the number of channels, of frames, the height or the width does not fit.
        """
        return self._quantised(encode_clip(self.encoder, video, self.config.backbone))

    def decode(self, latents: Tensor) -> Tensor:
        """Return the video (B, C, T, H, W), not clamped, of codes (B, D, T', H', W').

        Raises:
            ValueError: the codes' number of channels does not fit.
        """
        check_channels(latents, self.post_quant_conv.in_channels, "codes have")
        return decode_clip(self.decoder, self.post_quant_conv(latents), self.config.backbone)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Quantised]:
        """Encode a clip of any length that comes in chunks; yield `encode`'s codes of it in parts.

        Args:
            chunks: (B, C, t, H, W) in [-1, 1] each, of any numbers t of frames that make
                1 + temporal_factor * n together.

        Raises:
            ValueError: a chunk's shape, or at the end the number of frames, does not fit.
        """
        for part in encode_chunks(self.encoder, chunks, self.config.backbone):
            yield self._quantised(part)

    @torch.no_grad()
    def decode_stream(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """Decode codes of a clip of any length that come in chunks (B, D, t', H', W').

        Yields `decode`'s video of them in parts (B, C, t, H, W), one a chunk.

        Raises:
            ValueError: a chunk's shape does not fit.
        """
        mixed = (self.post_quant_conv(chunk) for chunk in latents)
        yield from decode_chunks(self.decoder, mixed, self.config.backbone)

    def tokenise(self, video: Tensor) -> Tensor:
        """Return the tokens (B, T', H', W'), int64, of a video (B, C, T, H, W) in [-1, 1].

        Raises:
            ValueError: the number of channels, of frames, the height or the width does not fit.
        """
        return self.encode(video).indices

    def decode_tokens(self, indices: Tensor) -> Tensor:
        """Return the video (B, C, T, H, W), not clamped, of tokens (B, T', H', W').

        Raises:
            ValueError: they have another shape, or one is not in [0, codebook_size).
        """
        if indices.ndim != 4 or indices.is_floating_point():
            raise ValueError(
                "tokens are integers of shape (B, T, H, W), "
                f"got {indices.dtype} of shape {tuple(indices.shape)}"
            )
        if indices.numel() and not 0 <= indices.min() <= indices.max() < self.codebook_size:
            raise ValueError(
                f"tokens lie in {int(indices.min())} to {int(indices.max())}; "
                f"this autoencoder has 0 to {self.codebook_size - 1}"
            )
        return self.decode(self.quantiser.codes(indices).to(self.post_quant_conv.weight))

    @property
    def codebook_size(self) -> int:
        """Number of tokens that there are."""
        return self.config.quantiser.codebook_size

    def update_codebook(self, reduce: Reduce = alone) -> dict[str, float]:
        """Learn from the codes of all forward passes since the last update, then forget them.

        Forward passes count while training with gradients. Collective: every rank calls it once an
        optimiser step.

        Args:
            reduce: sums a tensor over all ranks, in place.

        Returns:
            `usage`, the share of the codes that were used, and `perplexity`, the number of codes
            that would carry as much information if used evenly.
        """
        return self.quantiser.update(reduce)

    def _quantised(self, head: Tensor) -> Quantised:
        """Return the codes that the encoder's output (B, z, T', H', W') stands for."""
        code: Quantised = self.quantiser(self.quant_conv(head))
        return code

    def block_names(self) -> tuple[str, ...]:
        """Name the blocks to recompute in the backward pass, to shard and to compile."""
        return block_names(self)
