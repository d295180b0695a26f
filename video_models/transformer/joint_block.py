"""Blocks in which video and text attend to each other, in one attention over both.

Video tokens stand before text tokens in one sequence. First blocks have weights of their own for
each of the two (Esser et al. 2024, arXiv 2403.03206, figure 2), later ones share them all and
compute attention and feed-forward side by side (Dehghani et al. 2023, arXiv 2302.05442, section 2).
Names of parameters are those of the published checkpoints.

Legend: B batch, S video tokens, L text tokens, N = S + L, D width, H heads, d channels of a head.
Samples of different shapes that are packed into one sequence have B = 1, S video tokens and L text
tokens together; there are M captions and times.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from video_models.layers.attention import Attention, AttentionFunction, head_norm
from video_models.layers.feed_forward import FeedForward
from video_models.layers.linear import Linear, gelu_of
from video_models.layers.modulation import add_gated
from video_models.layers.norms import ModulatedLayerNorm
from video_models.layers.rope import Rotation, rotate
from video_models.layers.sequence import Placement
from video_models.transformer.joint_config import JointTransformerConfig
from video_models.transformer.joint_modulation import Modulation
from video_models.transformer.joint_packing import among_samples, over_stretches
from video_models.transformer.joint_text import EPS
from video_models.transformer.packing import by_sample


class JointContext(NamedTuple):
    """What a block is given beside the tokens."""

    vector: Tensor
    """Time, guidance and the text as a whole, (B, 1, D); packed, one a sample, (M, 1, D). Where
    tokens have times of their own, that of each token that is here, (B, N, D)."""
    turn: Rotation
    """Rotary positions of the tokens that are here; those of text do not turn. (N, d / 2)."""
    mask: Tensor | None
    """Which tokens are seen, of all, (B, N) bool; None for all."""
    video: int
    """How many tokens that are here are of the video."""
    tokens: int
    """N, wherever they are."""
    samples: tuple[int, ...]
    """Video tokens of each packed sample, or of one of the batch, wherever they are."""
    text: int
    """Text tokens of each."""
    here: tuple[int, ...]
    """Tokens that are here of each stretch: of the video of each, then of the text of each."""
    placement: Placement
    """Where the tokens are."""


def vectors_of(context: JointContext) -> tuple[Tensor, Tensor]:
    """Return the vector of video tokens, and that of text tokens."""
    vector, video = context.vector, context.video
    return (vector, vector) if vector.shape[1] == 1 else (vector[:, :video], vector[:, video:])


class JointAttention(Attention):
    """Attention over video and text, each with layers of its own."""

    def __init__(self, config: JointTransformerConfig, *, function: AttentionFunction):
        dim, heads = config.dim, config.num_heads
        super().__init__(dim, num_heads=heads, eps=EPS, function=function, qk_norm="per_head")
        self.add_q_proj = Linear(dim, dim)
        self.add_k_proj = Linear(dim, dim)
        self.add_v_proj = Linear(dim, dim)
        self.norm_added_q = head_norm(dim, heads, EPS, "per_head")
        self.norm_added_k = head_norm(dim, heads, EPS, "per_head")
        self.to_add_out = Linear(dim, dim)

    def attend_both(
        self, video: Tensor, text: Tensor, context: JointContext
    ) -> tuple[Tensor, Tensor]:
        """Return the attended tokens of both, (B, S, D) and (B, L, D)."""
        k, v = self.keys_values(video)
        q = torch.cat(
            (self.queries(video), self._added(self.add_q_proj, text, self.norm_added_q)), 1
        )
        k = torch.cat((k, self._added(self.add_k_proj, text, self.norm_added_k)), 1)
        v = torch.cat((v, self.split(self.add_v_proj(text))), 1)
        out = attend_all(self.function, q, k, v, context).type_as(video)  # (B, N, D)
        return self.to_out[0](out[:, : context.video]), self.to_add_out(out[:, context.video :])

    def _added(self, layer: nn.Module, text: Tensor, norm: nn.Module) -> Tensor:
        return self.split_normed(layer(text), norm)


class Stream(NamedTuple):
    """What modulates the tokens of one kind, of video or of text, in a block."""

    norm: nn.Module
    parts: tuple[Tensor, ...]
    """Shift, scale and gate of attention, then of the feed-forward network."""
    lengths: tuple[int, ...]
    """Tokens that are here of each packed sample, or of one of the batch."""

    def normed(self, x: Tensor, first: int = 0) -> Tensor:
        """Return the tokens normed under the shift and the scale from a place on."""
        return by_sample(self.norm, [x], self.parts[first : first + 2], self.lengths).type_as(x)

    def finished(self, x: Tensor, answer: Tensor, ff: nn.Module) -> Tensor:
        """Add the answer of attention, and what the feed-forward network makes of the sum."""
        x = by_sample(add_gated, [x, answer], self.parts[2:3], self.lengths)
        return by_sample(add_gated, [x, ff(self.normed(x, 3))], self.parts[5:], self.lengths)


class DualBlock(nn.Module):
    """Joint attention and feed-forward, with weights of their own for video and text."""

    def __init__(self, config: JointTransformerConfig, *, attention: AttentionFunction):
        super().__init__()
        dim = config.dim
        self.norm = ModulatedLayerNorm(EPS)
        self.norm1 = Modulation(dim, 6)
        self.norm1_context = Modulation(dim, 6)
        self.attn = JointAttention(config, function=attention)
        self.ff = FeedForward(dim, config.ffn_dim)
        self.ff_context = FeedForward(dim, config.ffn_dim)

    def forward(self, x: Tensor, context: JointContext) -> Tensor:
        """Return the tokens after this block, (B, N, D)."""
        video, text = x[:, : context.video], x[:, context.video :]
        (vector, text_vector), half = vectors_of(context), len(context.samples)
        of_video = Stream(self.norm, self.norm1(vector), context.here[:half])
        of_text = Stream(self.norm, self.norm1_context(text_vector), context.here[half:])
        answers = self.attn.attend_both(of_video.normed(video), of_text.normed(text), context)
        video = of_video.finished(video, answers[0], self.ff)
        text = of_text.finished(text, answers[1], self.ff_context)
        return torch.cat((video, text), dim=1)


class SingleBlock(nn.Module):
    """Attention and feed-forward side by side, with the same weights for video and text."""

    def __init__(self, config: JointTransformerConfig, *, attention: AttentionFunction):
        super().__init__()
        dim = config.dim
        self.norm1 = ModulatedLayerNorm(EPS)
        self.norm = Modulation(dim, 3)
        self.attn = Attention(
            dim,
            num_heads=config.num_heads,
            eps=EPS,
            function=attention,
            qk_norm="per_head",
            output=False,
        )
        self.proj_mlp = Linear(dim, config.ffn_dim)
        self.proj_out = Linear(dim + config.ffn_dim, dim)

    def forward(self, x: Tensor, context: JointContext) -> Tensor:
        """Return the tokens after this block, (B, N, D)."""
        shift, scale, gate = self.norm(context.vector)
        y = over_stretches(self.norm1, [x], [shift, scale], context.here).type_as(x)
        q, (k, v) = self.attn.queries(y), self.attn.keys_values(y)
        answer = attend_all(self.attn.function, q, k, v, context).type_as(x)
        inner = gelu_of(self.proj_mlp, y, "tanh")
        update = self.proj_out(torch.cat((answer, inner), dim=-1))
        return over_stretches(add_gated, [x, update], [gate], context.here)


def attend_all(
    kernel: AttentionFunction, q: Tensor, k: Tensor, v: Tensor, context: JointContext
) -> Tensor:
    """Return what all tokens answer to those that are here, (B, N, D)."""
    q, k = rotate(q, context.turn), rotate(k, context.turn)
    kernel = among_samples(kernel, context.samples, context.text)
    kernel = context.placement.attend(kernel, context.tokens)
    return kernel(q, k, v, context.mask).flatten(-2)
