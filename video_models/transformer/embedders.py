"""What a transformer is conditioned on, brought to its width: time, texts, image, guidance scale.

Names of parameters are those of the published checkpoints.

Legend: B batch, S tokens, L text tokens, I image tokens, D width; times are (B, 1) or (B, S).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.embeddings import NumberEmbedder, TextProjection, WideLinear
from video_models.layers.feed_forward import FeedForward
from video_models.layers.joining import joined
from video_models.layers.norms import WideLayerNorm
from video_models.transformer.config import TransformerConfig

TIME_UNITS = 1000.0
"""Published models count time from 0 to 1000."""

GUIDANCE_UNITS = 100.0
"""Brings guidance scales of 1 to 10 to the numbers that times of 0.1 to 1 have."""

IMAGE_EPS = 1e-5
"""Of the layer norms around the image projection, whatever the rest of the model has."""


class ImageEmbedder(nn.Module):
    """Tokens of an image encoder through a two-layer network between layer norms."""

    def __init__(self, image_dim: int, dim: int, *, positions: int | None):
        super().__init__()
        self.norm1 = WideLayerNorm(image_dim, IMAGE_EPS)
        self.ff = FeedForward(image_dim, image_dim, dim_out=dim, approximate="none")
        self.norm2 = WideLayerNorm(dim, IMAGE_EPS)
        self.pos_embed = (
            None if positions is None else nn.Parameter(torch.zeros(1, positions, image_dim))
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, I, D) from (B, I, image_dim).

        Raises:
            ValueError: there are more or fewer tokens than positions were learned for.
        """
        if self.pos_embed is not None:
            if image.shape[1] != self.pos_embed.shape[1]:
                raise ValueError(
                    f"{image.shape[1]} image tokens a sample; image_positions is "
                    f"{self.pos_embed.shape[1]}: give the tokens of all images of a sample together"
                )
            image = image + self.pos_embed
        normed: Tensor = self.norm2(self.ff(self.norm1(image).type_as(image))).type_as(image)
        return normed


class ConditionEmbedder(nn.Module):
    """Time, texts and, in some models, an image and the guidance scale."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        dim = config.dim
        self.time_embedder = NumberEmbedder(config.freq_dim, dim)
        self.time_proj = WideLinear(dim, 6 * dim) if config.modulation == "shared" else None
        self.text_embedder = TextProjection(config.text_dim, dim)
        self.guidance_embedder = (
            NumberEmbedder(config.freq_dim, dim) if config.guidance_embedding else None
        )
        self.more_text_embedders = nn.ModuleList(
            TextProjection(width, dim) for width in config.more_text_dims
        )
        self.image_embedder = (
            None
            if config.image_dim is None
            else ImageEmbedder(config.image_dim, dim, positions=config.image_positions)
        )

    def forward(self, t: Tensor, guidance: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the embedding of the time and what modulates the blocks.

        Args:
            t: (B, 1) or (B, S) in [0, 1].
            guidance: scales, like t; or None.

        Returns:
            (B, 1 or S, D), and (B, 1 or S, 6, D) for shared modulation or (B, 1 or S, D) for that
            of each block; float32 or wider.
        """
        time: Tensor = self.time_embedder(t * TIME_UNITS)
        if self.guidance_embedder is not None and guidance is not None:
            time = time + self.guidance_embedder(guidance * GUIDANCE_UNITS)
        activated = F.silu(time)
        if self.time_proj is None:
            return time, activated
        return time, self.time_proj(activated).unflatten(-1, (6, -1))

    def texts(self, texts: Sequence[Tensor]) -> Tensor:
        """Return the tokens of all texts, (B, L, D), from (B, L_i, text_dim_i) of each encoder."""
        embedders = (self.text_embedder, *self.more_text_embedders)
        tokens = [embed(text) for embed, text in zip(embedders, texts, strict=True)]
        return joined(tokens, 1)
