"""One block of the transformer.

Names of parameters are those of the published checkpoints, so that their files load as they are.

Legend: B batch, S tokens, L text tokens, D width; times are (B, 1) or (B, S).
"""

import torch
from torch import Tensor, nn

from video_models.layers.attention import Attention, AttentionFunction
from video_models.layers.embeddings import WideLinear
from video_models.layers.feed_forward import FeedForward
from video_models.layers.modulation import add_gated, split_modulation
from video_models.layers.norms import ModulatedLayerNorm, WideLayerNorm
from video_models.transformer.config import TransformerConfig
from video_models.transformer.context import Context
from video_models.transformer.cross_attention import CrossAttention, Memory
from video_models.transformer.packing import among_themselves, by_sample, lengths_of, to_own_memory
from video_models.transformer.spans import span_of


class TransformerBlock(nn.Module):
    """Self-attention, attention to the text, feed-forward; the time modulates first and last.

    Args:
        config: of the transformer.
        index: which of its blocks this is.
        attention: kernel of the self-attention.
        cross_attention: kernel of the attention to the text.
    """

    def __init__(
        self,
        config: TransformerConfig,
        index: int,
        *,
        attention: AttentionFunction,
        cross_attention: AttentionFunction,
    ):
        super().__init__()
        dim, eps = config.dim, config.eps
        self.span = span_of(config, index)
        self.norm1 = ModulatedLayerNorm(eps)
        self.attn1 = Attention(
            dim, num_heads=config.num_heads, eps=eps, function=attention, qk_norm=config.qk_norm
        )
        self.norm2 = WideLayerNorm(dim, eps) if config.cross_attention_norm else nn.Identity()
        self.attn2 = CrossAttention(config, function=cross_attention)
        self.norm3 = ModulatedLayerNorm(eps)
        self.ffn = FeedForward(dim, config.ffn_dim)
        shared = config.modulation == "shared"
        self.time_proj = None if shared else WideLinear(dim, 6 * dim)
        if shared:
            self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) * dim**-0.5)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Return the tokens after this block, (B, S, D).

        Args:
            x: tokens, (B, S, D).
            context: what they are conditioned on.
        """
        lengths = context.lengths
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = self._modulation(context.modulation)
        y = by_sample(self.norm1, [x], [shift, scale], lengths).type_as(x)
        y = self.attn1(
            y,
            turn=context.turn,
            function=context.placement.attend(
                among_themselves(self.attn1.function, context.grids, self.span),
                sum(lengths_of(context.grids)),
            ),
        )
        x = by_sample(add_gated, [x, y], [gate], lengths)
        x = x + self._look_up(self.norm2(x).type_as(x), context)
        y = by_sample(self.norm3, [x], [ffn_shift, ffn_scale], lengths).type_as(x)
        return by_sample(add_gated, [x, self.ffn(y)], [ffn_gate], lengths)

    def _modulation(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        """Return shift, scale and gate of both ends, (B, 1 or S, D) each."""
        if self.time_proj is not None:
            projected: Tensor = self.time_proj(conditioning)
            return projected.chunk(6, dim=-1)
        return split_modulation(self.scale_shift_table, conditioning)

    def _look_up(self, x: Tensor, context: Context) -> Tensor:
        """Return what the text, and the image if there is one, answer to the tokens."""
        source = context.source
        memory = source if isinstance(source, Memory) else self.attn2.remember(source)
        answer: Tensor = self.attn2(
            x,
            mask=context.text_mask,
            keys_values=memory.text,
            added=memory.image,
            function=to_own_memory(self.attn2.function, context.lengths),
        )
        return answer
