"""Attention of latent tokens to the text and, in Wan 2.1's image to video, to an image.

Both are asked with the same queries; their answers are added before the output layer.

Legend: B batch, S latent tokens, L text tokens, I image tokens, D width, H heads, d channels of a
head.
"""

from typing import NamedTuple

from torch import Tensor

from video_models.layers.attention import Attention, AttentionFunction, KeysValues, head_norm
from video_models.layers.linear import Linear
from video_models.transformer.config import TransformerConfig


class Tokens(NamedTuple):
    """What is attended to."""

    text: Tensor
    """(B, L, D)."""
    image: Tensor | None
    """(B, I, D)."""

    @property
    def captions(self) -> int:
        """How many samples there are texts for."""
        return len(self.text)


class Memory(NamedTuple):
    """What one block's cross-attention attends to; the same at every step of a sampler."""

    text: KeysValues
    """(B, L, H, d) each."""
    image: KeysValues | None
    """(B, I, H, d) each."""

    @property
    def captions(self) -> int:
        """How many samples there are texts for."""
        return len(self.text[0])


class CrossAttention(Attention):
    """Attention to text tokens, and to image tokens where the model takes any."""

    def __init__(self, config: TransformerConfig, *, function: AttentionFunction):
        dim, heads = config.dim, config.num_heads
        super().__init__(
            dim, num_heads=heads, eps=config.eps, function=function, qk_norm=config.qk_norm
        )
        if config.image_dim is not None:
            self.add_k_proj = Linear(dim, dim)
            self.add_v_proj = Linear(dim, dim)
            self.norm_added_k = head_norm(dim, heads, config.eps, config.qk_norm)

    def remember(self, tokens: Tokens) -> Memory:
        """Return the keys and values of the tokens."""
        text = self.keys_values(tokens.text)
        if tokens.image is None:
            return Memory(text, None)
        keys = self.split_normed(self.add_k_proj(tokens.image), self.norm_added_k)
        return Memory(text, (keys, self.split(self.add_v_proj(tokens.image))))
