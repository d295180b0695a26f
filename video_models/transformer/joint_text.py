"""The text of a joint transformer: projected, then refined by attention to itself.

Ma et al. 2024, HunyuanVideo, arXiv 2412.03603, section 4.2: the embeddings of a language model
that looks back only are given what looks both ways. Names of parameters are those of the published
checkpoints.

Legend: B batch, L text tokens, D width.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.attention import Attention, AttentionFunction
from video_models.layers.linear import Linear
from video_models.layers.modulation import add_gated
from video_models.layers.norms import WideLayerNorm
from video_models.transformer.inputs import Masks, Texts
from video_models.transformer.joint_config import JointTransformerConfig
from video_models.transformer.joint_modulation import Modulation, VectorSum

EPS = 1e-6
"""Added to variances before their root, in all published models."""

WIDENING = 4
"""Inner width of the refiner's feed-forward networks, in widths."""


class ProjectedSilu(nn.Module):
    """The first half of a feed-forward network."""

    def __init__(self, dim: int, ffn_dim: int):
        super().__init__()
        self.proj = Linear(dim, ffn_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return silu(x W^T + b)."""
        return F.silu(self.proj(x))


class SiluFeedForward(nn.Module):
    """Linear, SiLU, linear."""

    def __init__(self, dim: int, ffn_dim: int):
        super().__init__()
        # Published models keep a dropout at number 1.
        self.net = nn.Sequential(ProjectedSilu(dim, ffn_dim), nn.Identity(), Linear(ffn_dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, D)."""
        projected: Tensor = self.net(x)
        return projected


class RefinerBlock(nn.Module):
    """Attention of the text to itself and a feed-forward network, each gated by the time."""

    def __init__(self, config: JointTransformerConfig, *, attention: AttentionFunction):
        super().__init__()
        dim = config.dim
        self.norm1 = WideLayerNorm(dim, EPS)
        self.attn = Attention(
            dim, num_heads=config.num_heads, eps=EPS, function=attention, qk_norm="none"
        )
        self.norm2 = WideLayerNorm(dim, EPS)
        self.ff = SiluFeedForward(dim, WIDENING * dim)
        self.norm_out = Modulation(dim, 2)

    def forward(self, x: Tensor, vector: Tensor, mask: Tensor | None) -> Tensor:
        """Return the tokens after this block, (B, L, D).

        Args:
            x: text tokens, (B, L, D).
            vector: of the time and the text as a whole, (B, 1, D).
            mask: which tokens are seen, (B, L) bool; None for all.
        """
        gate, ffn_gate = self.norm_out(vector)
        x = add_gated(x, self.attn(self.norm1(x).type_as(x), mask=mask), gate)
        return add_gated(x, self.ff(self.norm2(x).type_as(x)), ffn_gate)


class Refiner(nn.Module):
    """The refiner's blocks, one after the other."""

    def __init__(self, config: JointTransformerConfig, *, attention: AttentionFunction):
        super().__init__()
        self.refiner_blocks = nn.ModuleList(
            RefinerBlock(config, attention=attention) for _ in range(config.num_refiner_layers)
        )


class TextEmbedder(nn.Module):
    """Text embeddings as tokens of the model."""

    def __init__(self, config: JointTransformerConfig, *, attention: AttentionFunction):
        super().__init__()
        refines = config.num_refiner_layers > 0
        self.time_text_embed = VectorSum(config.dim, text_dim=config.text_dim) if refines else None
        self.proj_in = Linear(config.text_dim, config.dim)
        self.token_refiner = Refiner(config, attention=attention)

    def project(self, text: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return what no time changes: tokens (B, L, D), and their mean embedded, (B, D)."""
        if self.time_text_embed is None:
            return self.proj_in(text), None
        return self.proj_in(text), self.time_text_embed.embed_text(_mean(text, mask))

    def forward(
        self, tokens: Tensor, mean: Tensor | None, t: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Return the refined tokens, (B, L, D).

        Args:
            tokens: as `project` returned them.
            mean: the same.
            t: times in [0, 1], (B, 1).
            mask: which tokens are seen, (B, L) bool; None for all.
        """
        if self.time_text_embed is None:
            return tokens
        vector = self.time_text_embed(t, self.time_text_embed.beside(mean))
        for block in self.token_refiner.refiner_blocks:
            tokens = block(tokens, vector, mask)
        return tokens


def texts_apart(
    text: Texts, mask: Masks, pooled: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the embeddings, which of them are seen, and the pooled embedding, (B, pooled_dim).

    Args:
        text: embeddings (B, L, text_dim), or a list of those and the pooled one, (B, 1,
            pooled_dim), as two text encoders give them.
        mask: of the first, (B, L) bool, or a list of those of both.
        pooled: the pooled one, where it is not in the list.

    Raises:
        ValueError: the list is of another length, or the second text of more than one token.
    """
    if isinstance(text, Tensor) and not isinstance(mask, Sequence):
        return text, mask, pooled
    texts = [text] if isinstance(text, Tensor) else [*text]
    masks = [*mask] if isinstance(mask, Sequence) else [mask] * len(texts)
    if len(texts) != 2 or len(masks) != 2 or pooled is not None or texts[1].shape[1] != 1:
        raise ValueError(
            f"{len(texts)} texts, {len(masks)} masks and {'a' if pooled is not None else 'no'} "
            "pooled embedding; a joint transformer takes one text, or a list of its tokens and of "
            "one pooled embedding a caption, (batch, 1, pooled_dim)"
        )
    return texts[0], masks[0], texts[1][:, 0]


def _mean(text: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean of the seen embeddings, (B, text_dim)."""
    if mask is None:
        return text.mean(dim=1)
    seen = mask[..., None].type_as(text)
    return (text * seen).sum(dim=1) / seen.sum(dim=1)
