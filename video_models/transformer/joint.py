"""The joint transformer: video and text tokens in one attention, the velocity towards noise out.

The design of HunyuanVideo (arXiv 2412.03603) and FLUX. With `config` and weights of a published
checkpoint it computes what that model computes. It is called as `VideoTransformer` is:

    v = model(latents, t, text, text_mask=mask)
    prepared = model.prepare(text, text_mask=mask)      # once a prompt
    v = model(latents, t, prepared)                     # the same, at every step of a sampler
    v, tokens = model(latents, t, text, features=(3,))  # and what left block 3

Legend: B batch, C latent channels, (T, H, W) latent frames, rows, columns, (F, R, Q) the same in
tokens, S = F R Q video tokens, L text tokens, N = S + L, D width, d channels of a head.
"""

import math
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from video_models.layers.attention import AttentionFunction, attend
from video_models.layers.norms import ModulatedLayerNorm
from video_models.layers.rope import Rotation, rotation
from video_models.layers.sequence import WHOLE, Placement
from video_models.transformer.inputs import (
    Samples,
    check_count,
    check_given,
    grid_of,
    lay_out_latents,
)
from video_models.transformer.joint_block import DualBlock, JointContext, SingleBlock
from video_models.transformer.joint_config import JointTransformerConfig
from video_models.transformer.joint_modulation import Modulation, VectorSum
from video_models.transformer.joint_text import EPS, TextEmbedder
from video_models.transformer.spans import Grid


class JointPrepared(NamedTuple):
    """What a joint transformer makes of the text alone, for all steps of a sampler.

    It holds until the weights change.
    """

    tokens: Tensor
    """Projected, not yet refined, which the time takes part in; (B, L, D)."""
    mean: Tensor | None
    """Of the embeddings, embedded, (B, D); None without refiner."""
    pooled: Tensor | None
    """The embedding of the whole text, embedded, (B, D)."""
    mask: Tensor | None
    """Which tokens are seen, (B, L) bool; None for all."""
    turns: dict[tuple[Grid, torch.device], Rotation]
    """Rotary positions of the grids that were asked for so far, those of the text behind them."""


class PatchEmbedder(nn.Module):
    """Patches of latents as tokens."""

    def __init__(self, config: JointTransformerConfig):
        super().__init__()
        patch = config.patch_size
        self.proj = nn.Conv3d(config.input_channels, config.dim, kernel_size=patch, stride=patch)

    def forward(self, latents: Tensor) -> Tensor:
        """Return (B, S, D) from (B, C, T, H, W)."""
        tokens: Tensor = self.proj(latents).flatten(2).transpose(1, 2)
        return tokens


class JointTransformer(nn.Module):
    """A diffusion transformer in which video and text attend to each other.

    Attributes:
        config: what it was built from.
        placement: where the tokens of a sample are computed; may be replaced at any time.
    """

    def __init__(self, config: JointTransformerConfig, *, attention: AttentionFunction = attend):
        super().__init__()
        self.config = config
        self.placement: Placement = WHOLE
        dim = config.dim
        self.x_embedder = PatchEmbedder(config)
        self.context_embedder = TextEmbedder(config, attention=attention)
        self.time_text_embed = VectorSum(
            dim, text_dim=config.pooled_dim, guidance=config.guidance_embedding
        )
        self.transformer_blocks = nn.ModuleList(
            DualBlock(config, attention=attention) for _ in range(config.num_layers)
        )
        self.single_transformer_blocks = nn.ModuleList(
            SingleBlock(config, attention=attention) for _ in range(config.num_single_layers)
        )
        self.norm = ModulatedLayerNorm(EPS)
        self.norm_out = Modulation(dim, 2)
        self.proj_out = nn.Linear(dim, math.prod(config.patch_size) * config.latent_channels)
        self._draw()

    def forward(
        self,
        latents: Samples,
        t: Tensor,
        text: Tensor | JointPrepared,
        *,
        text_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        condition: Tensor | None = None,
        guidance: Tensor | None = None,
        features: Collection[int] = (),
    ) -> Tensor | tuple[Tensor, dict[int, Tensor]]:
        """Return the velocity, (B, C, T, H, W); with `features`, and the tokens after those blocks.

        Args:
            latents: noisy latents, (B, C, T, H, W).
            t: times in [0, 1], 1 is noise; (B,).
            text: text embeddings, (B, L, text_dim), or what `prepare` returned.
            text_mask: True for real tokens, (B, L), at least one a row; None if all are real.
            pooled: one embedding of the whole text, (B, pooled_dim); exactly the models with
                `pooled_dim` take it.
            condition: what is known of the clip, (B, condition_channels, T, H, W).
            guidance: scales (B,); exactly the models with `guidance_embedding` take them.
            features: blocks after which the video tokens are returned as well, (B, S, D) by
                number; blocks are counted through both kinds.

        Raises:
            ValueError: a shape does not fit, or an input is given or missing against the config.
        """
        if not isinstance(latents, Tensor):
            raise ValueError("a joint transformer takes one batch (B, C, T, H, W); pack no samples")
        grid = self.token_grid(latents)
        check_given(self.config, guidance=guidance, condition=condition)
        if t.dim() != 1:
            raise ValueError(f"t has shape {tuple(t.shape)}; a joint transformer takes (batch,)")
        prepared = self._prepared(text, text_mask, pooled)
        check_count(len(prepared.tokens), len(latents))
        (z,) = lay_out_latents(self.config.condition_channels, latents, condition)
        words = self.context_embedder(prepared.tokens, prepared.mean, t, prepared.mask)
        x = torch.cat((self.x_embedder(z), words), dim=1)  # (B, N, D)
        context = self._context(prepared, grid, self.time_text_embed(t, prepared.pooled, guidance))
        x, kept = self._pass_blocks(self.placement.split(x, 1), context, features)
        S = math.prod(grid)
        kept = {index: tokens[:, :S] for index, tokens in kept.items()}
        if self.placement is WHOLE:  # else the cut between the ranks stays where it is
            x = x[:, :S]
        scale, shift = self.norm_out(context.vector)
        x = self.proj_out(self.norm(x, shift, scale).type_as(x))
        velocity = self._unpatch(self.placement.join(x, 1)[:, :S], grid)
        return (velocity, kept) if features else velocity

    def prepare(
        self, text: Tensor, *, text_mask: Tensor | None = None, pooled: Tensor | None = None
    ) -> JointPrepared:
        """Return what `forward` makes of the text alone, to be given in its place.

        A sampler calls the model at many times with one prompt; projections of the text and rotary
        positions are then computed once. It holds until the weights change.
        """
        check_given(self.config, pooled=pooled)
        tokens, mean = self.context_embedder.project(text, text_mask)
        embedded = self.time_text_embed.embed_text(pooled)
        return JointPrepared(tokens, mean, embedded, text_mask, {})

    def token_grid(self, latents: Tensor) -> Grid:
        """Return how many tokens latents make along frames, rows and columns."""
        config = self.config
        return grid_of(
            latents,
            channels=config.latent_channels,
            patch=config.patch_size,
            limit=config.max_positions,
        )

    def block_names(self) -> tuple[str, ...]:
        """Return the names of the modules to checkpoint, shard or compile one by one."""
        kinds = ("transformer_blocks", "single_transformer_blocks")
        return tuple(f"{kind}.{i}" for kind in kinds for i in range(len(getattr(self, kind))))

    def _prepared(
        self, text: Tensor | JointPrepared, mask: Tensor | None, pooled: Tensor | None
    ) -> JointPrepared:
        if isinstance(text, Tensor):
            return self.prepare(text, text_mask=mask, pooled=pooled)
        if mask is not None or pooled is not None:
            raise ValueError("a prepared text has its mask and pooled embedding; leave them out")
        return text

    def _context(self, prepared: JointPrepared, grid: Grid, vector: Tensor) -> JointContext:
        """Return what all blocks are given."""
        S, (B, L, _) = math.prod(grid), prepared.tokens.shape
        key = (grid, vector.device)
        if key not in prepared.turns:
            prepared.turns[key] = self._turn(grid, L, vector.device)
        mask = prepared.mask
        if mask is not None:
            mask = torch.cat((mask.new_ones(B, S), mask), dim=1)
        places = self.placement.split(torch.arange(S + L, device="cpu"), 0)
        return JointContext(
            vector=vector,
            turn=self.placement.split(prepared.turns[key], 0),
            mask=mask,
            video=int((places < S).sum()),
            tokens=S + L,
            placement=self.placement,
        )

    def _turn(self, grid: Grid, text: int, device: torch.device) -> Rotation:
        """Return the rotation of video tokens, and that of as many text tokens, which is none."""
        config = self.config
        turn = rotation(
            grid, config.head_dim, device=device, axes=config.rope_axes, theta=config.rope_theta
        )
        return torch.cat((turn, turn.new_ones(text, turn.shape[1])))

    def _pass_blocks(
        self, x: Tensor, context: JointContext, features: Collection[int]
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the tokens after all blocks, and those after the blocks of some numbers."""
        blocks = (*self.transformer_blocks, *self.single_transformer_blocks)
        if unknown := sorted(set(features) - set(range(len(blocks)))):
            raise ValueError(f"features name blocks {unknown}; the last is {len(blocks) - 1}")
        kept: dict[int, Tensor] = {}
        for index, block in enumerate(blocks):
            x = block(x, context)
            if index in features:
                kept[index] = self.placement.join(x, 1)
        return x, kept

    def _unpatch(self, x: Tensor, grid: Grid) -> Tensor:
        """Lay the patches of tokens out as latents."""
        patch = self.config.patch_size
        x = x.reshape(len(x), *grid, -1, *patch)  # (B, F, R, Q, C, f, r, q)
        return x.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    @torch.no_grad()
    def _draw(self) -> None:
        """Draw all weights; every block starts as the identity, as in DiT."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Modulation):
                nn.init.zeros_(module.linear.weight)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.flatten(1))
        if self.config.zero_init_output:
            nn.init.zeros_(self.proj_out.weight)
