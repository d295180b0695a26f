"""One block of the transformer, and the embedding of what it is conditioned on.

Names of parameters are those of the published checkpoints, so that their files load as they are.

Legend: B batch, S tokens, L text tokens, D width; times are (B, 1) or (B, S).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.attention import Attention, AttentionFunction
from video_models.layers.embeddings import NumberEmbedder, TextProjection, WideLinear
from video_models.layers.modulation import add_gated, modulate, split_modulation
from video_models.layers.norms import WideLayerNorm
from video_models.layers.rope import Rotation
from video_models.transformer.config import TransformerConfig

TIME_UNITS = 1000.0
"""Published models count time from 0 to 1000."""

GUIDANCE_UNITS = 100.0
"""Brings guidance scales of 1 to 10 to the numbers that times of 0.1 to 1 have."""


class ProjectedGelu(nn.Module):
    """The first half of a feed-forward network."""

    def __init__(self, dim: int, ffn_dim: int):
        super().__init__()
        self.proj = nn.Linear(dim, ffn_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return gelu(x W^T + b)."""
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    """Linear, GELU, linear; each token by itself."""

    def __init__(self, dim: int, ffn_dim: int):
        super().__init__()
        # Published models keep a dropout at number 1.
        self.net = nn.Sequential(
            ProjectedGelu(dim, ffn_dim), nn.Identity(), nn.Linear(ffn_dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, S, D)."""
        projected: Tensor = self.net(x)
        return projected


class ConditionEmbedder(nn.Module):
    """Time, text and, in some students, the guidance scale."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        dim = config.dim
        self.time_embedder = NumberEmbedder(config.freq_dim, dim)
        self.time_proj = WideLinear(dim, 6 * dim)
        self.text_embedder = TextProjection(config.text_dim, dim)
        self.guidance_embedder = (
            NumberEmbedder(config.freq_dim, dim) if config.guidance_embedding else None
        )

    def forward(
        self, t: Tensor, text: Tensor, guidance: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the embedding of the time, what modulates the blocks, and the text.

        Args:
            t: (B, 1) or (B, S) in [0, 1].
            text: (B, L, text_dim).
            guidance: scales (B,), or None.

        Returns:
            (B, 1 or S, D) and (B, 1 or S, 6, D) in float32 or wider, and (B, L, D).
        """
        time: Tensor = self.time_embedder(t * TIME_UNITS)
        if self.guidance_embedder is not None and guidance is not None:
            time = time + self.guidance_embedder(guidance * GUIDANCE_UNITS)[:, None]
        modulation = self.time_proj(F.silu(time)).unflatten(-1, (6, -1))
        return time, modulation, self.text_embedder(text)


class TransformerBlock(nn.Module):
    """Self-attention, attention to the text, feed-forward; the time modulates first and last."""

    def __init__(
        self,
        config: TransformerConfig,
        *,
        attention: AttentionFunction,
        cross_attention: AttentionFunction,
    ):
        super().__init__()
        dim, eps = config.dim, config.eps
        self.norm1 = WideLayerNorm(dim, eps, elementwise_affine=False)
        self.attn1 = Attention(dim, num_heads=config.num_heads, eps=eps, function=attention)
        self.norm2 = WideLayerNorm(dim, eps) if config.cross_attention_norm else nn.Identity()
        self.attn2 = Attention(dim, num_heads=config.num_heads, eps=eps, function=cross_attention)
        self.norm3 = WideLayerNorm(dim, eps, elementwise_affine=False)
        self.ffn = FeedForward(dim, config.ffn_dim)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) * dim**-0.5)

    def forward(
        self,
        x: Tensor,
        text: Tensor,
        modulation: Tensor,
        turn: Rotation,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the tokens after this block.

        Args:
            x: tokens, (B, S, D).
            text: text tokens, (B, L, D).
            modulation: of the time, (B, 1 or S, 6, D).
            turn: rotary positions of x.
            text_mask: which text tokens are seen, (B, L) bool; None for all.
        """
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = split_modulation(
            self.scale_shift_table, modulation
        )
        y = modulate(self.norm1(x), shift, scale).type_as(x)
        x = add_gated(x, self.attn1(y, turn=turn), gate)
        x = x + self.attn2(self.norm2(x).type_as(x), text, mask=text_mask)
        y = modulate(self.norm3(x), ffn_shift, ffn_scale).type_as(x)
        return add_gated(x, self.ffn(y), ffn_gate)
