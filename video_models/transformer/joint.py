"""The joint transformer: video and text tokens in one attention, the velocity towards noise out.

The design of HunyuanVideo (arXiv 2412.03603) and FLUX. With `config` and weights of a published
checkpoint it computes what that model computes. It is called as `VideoTransformer` is:

    v = model(latents, t, text, text_mask=mask)
    prepared = model.prepare(text, text_mask=mask)      # once a prompt
    v = model(latents, t, prepared)                     # the same, at every step of a sampler
    v, tokens = model(latents, t, text, features=(3,))  # and what left block 3
    vs = model([clip, picture], t, text)                # different shapes, packed into one sequence

Tokens of the video may have times of their own. Text, and what it is refined by, then go by the
largest time of the sample, as in HunyuanVideo's image to video, where given frames have time 0.

Legend: B batch, C latent channels, (T, H, W) latent frames, rows, columns, (F, R, Q) the same in
tokens, S = F R Q video tokens, L text tokens, N = S + L, D width, d channels of a head; M packed
samples.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from video_models.layers.attention import AttentionFunction, attend
from video_models.layers.norms import ModulatedLayerNorm
from video_models.layers.rope import Rotation, rotation
from video_models.layers.sequence import WHOLE, Placement
from video_models.transformer.inputs import (
    Masks,
    Samples,
    Texts,
    Times,
    check_count,
    check_given,
    grid_of,
    groups_of,
    lay_out_latents,
    lay_out_numbers,
)
from video_models.transformer.joint_block import (
    DualBlock,
    JointContext,
    SingleBlock,
    vectors_of,
)
from video_models.transformer.joint_config import JointTransformerConfig
from video_models.transformer.joint_modulation import Modulation, VectorSum
from video_models.transformer.joint_packing import latest, over_stretches, stretches_of
from video_models.transformer.joint_text import EPS, TextEmbedder, texts_apart
from video_models.transformer.packing import by_sample, lengths_of
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
    turns: dict[tuple[tuple[Grid, ...], torch.device], Rotation]
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
        t: Times,
        text: Texts | JointPrepared,
        *,
        text_mask: Masks = None,
        pooled: Tensor | None = None,
        condition: Samples | None = None,
        guidance: Tensor | None = None,
        features: Collection[int] = (),
    ) -> Samples | tuple[Samples, dict[int, Tensor]]:
        """Return the velocity, (B, C, T, H, W); with `features`, and the tokens after those blocks.

        A list of M samples of different shapes is packed into one sequence: all that is (B, ...)
        below is then (M, ...), and a list of velocities is returned.

        Args:
            latents: noisy latents, (B, C, T, H, W), or a list of (C, T, H, W).
            t: times in [0, 1], 1 is noise; (B,), or (B, S) for a time of its own for each token of
                the video, which is a list of (S,) for a list of latents.
            text: text embeddings, (B, L, text_dim), or what `prepare` returned.
            text_mask: True for real tokens, (B, L), at least one a row; None if all are real.
            pooled: one embedding of the whole text, (B, pooled_dim); exactly the models with
                `pooled_dim` take it. It may also be the second of a list of texts, (B, 1,
                pooled_dim), as a second text encoder gives it; masks are then a list or None.
            condition: what is known of the clip, (B, condition_channels, T, H, W), or a list.
            guidance: scales (B,); exactly the models with `guidance_embedding` take them.
            features: blocks after which the video tokens are returned as well, (B, S, D) by
                number; of packed samples (1, S, D), one after the other. Blocks are counted
                through both kinds.

        Raises:
            ValueError: a shape does not fit, or an input is given or missing against the config.
        """
        grids = tuple(self.token_grid(group) for group in groups_of(latents))
        lengths = lengths_of(grids)
        check_given(self.config, guidance=guidance, condition=condition)
        times, _ = lay_out_numbers(t, None, samples=len(latents), lengths=lengths)
        prepared = self._prepared(text, text_mask, pooled)
        check_count(len(prepared.tokens), len(latents))
        vector = self._vector(times, prepared, guidance, lengths)
        context = self._context(prepared, grids, vector)
        groups = lay_out_latents(self.config.condition_channels, latents, condition)
        x = self._tokens(groups, prepared, latest(times, lengths))
        x, kept = self._pass_blocks(self.placement.split(x, 1), context, features)
        S = sum(lengths)
        kept = {index: tokens[:, :S] for index, tokens in kept.items()}
        x = self.placement.join(self._project(x, context), 1)[:, :S]
        parts = zip(torch.split(x, list(lengths), dim=1), grids, strict=True)
        out = [self._unpatch(part, grid) for part, grid in parts]
        velocity = out[0] if isinstance(latents, Tensor) else [v[0] for v in out]
        return (velocity, kept) if features else velocity

    def prepare(
        self, text: Texts, *, text_mask: Masks = None, pooled: Tensor | None = None
    ) -> JointPrepared:
        """Return what `forward` makes of the text alone, to be given in its place.

        A sampler calls the model at many times with one prompt; projections of the text and rotary
        positions are then computed once. It holds until the weights change.
        """
        text, mask, pooled = texts_apart(text, text_mask, pooled)
        check_given(self.config, pooled=pooled)
        tokens, mean = self.context_embedder.project(text, mask)
        embedded = self.time_text_embed.embed_text(pooled)
        return JointPrepared(tokens, mean, embedded, mask, {})

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
        self, text: Texts | JointPrepared, mask: Masks, pooled: Tensor | None
    ) -> JointPrepared:
        if not isinstance(text, JointPrepared):
            return self.prepare(text, text_mask=mask, pooled=pooled)
        if mask is not None or pooled is not None:
            raise ValueError("a prepared text has its mask and pooled embedding; leave them out")
        return text

    def _tokens(self, groups: Sequence[Tensor], prepared: JointPrepared, t: Tensor) -> Tensor:
        """Return the tokens of video and text, (B, N, D), at times (B, 1) or, packed, (M, 1)."""
        videos = [self.x_embedder(z) for z in groups]
        words = self.context_embedder(prepared.tokens, prepared.mean, t, prepared.mask)
        return torch.cat((*videos, words.reshape(len(videos[0]), -1, words.shape[-1])), dim=1)

    def _vector(
        self,
        times: Tensor,
        prepared: JointPrepared,
        guidance: Tensor | None,
        lengths: Sequence[int],
    ) -> Tensor:
        """Return time, guidance and the text as a whole, as `JointContext` has it, but of all."""
        embed = self.time_text_embed
        beside = embed.beside(prepared.pooled, guidance)
        whole: Tensor = embed(latest(times, lengths), beside)  # (B, 1, D), packed (M, 1, D)
        if times.shape[1] == 1:
            return whole
        if beside is not None and len(lengths) > 1:
            beside = torch.repeat_interleave(
                beside[:, 0], torch.tensor(lengths, device=beside.device), dim=0
            )[None]
        words = whole.expand(-1, prepared.tokens.shape[1], -1)
        of_text = words.reshape(len(times), -1, words.shape[-1])
        return torch.cat((embed(times, beside), of_text), dim=1)

    def _context(
        self, prepared: JointPrepared, grids: tuple[Grid, ...], vector: Tensor
    ) -> JointContext:
        """Return what all blocks are given."""
        lengths, (B, L, _) = lengths_of(grids), prepared.tokens.shape
        key = (grids, vector.device)
        if key not in prepared.turns:
            prepared.turns[key] = self._turn(grids, L, vector.device)
        mask = prepared.mask
        if mask is not None:
            mask = mask.reshape(B // len(grids), -1)
            mask = torch.cat((mask.new_ones(len(mask), sum(lengths)), mask), dim=1)
        here = self._here(stretches_of(lengths, L))
        return JointContext(
            vector=vector if vector.shape[1] == 1 else self.placement.split(vector, 1),
            turn=self.placement.split(prepared.turns[key], 0),
            mask=mask,
            video=sum(here[: len(lengths)]),
            tokens=sum(lengths) + len(lengths) * L,
            samples=lengths,
            text=L,
            here=here,
            placement=self.placement,
        )

    def _here(self, stretches: tuple[int, ...]) -> tuple[int, ...]:
        """Return how many tokens of each stretch are here."""
        if self.placement is WHOLE:
            return stretches
        owners = torch.repeat_interleave(torch.tensor(stretches, device="cpu"))  # (N,)
        here = torch.bincount(self.placement.split(owners, 0), minlength=len(stretches))
        return tuple(here.tolist())

    def _turn(self, grids: tuple[Grid, ...], text: int, device: torch.device) -> Rotation:
        """Return the rotations of video tokens, and those of text tokens, which do not turn."""
        config = self.config
        turns = [
            rotation(
                grid, config.head_dim, device=device, axes=config.rope_axes, theta=config.rope_theta
            )
            for grid in grids
        ]
        return torch.cat((*turns, turns[0].new_ones(len(grids) * text, turns[0].shape[1])))

    def _project(self, x: Tensor, context: JointContext) -> Tensor:
        """Return the patches of the tokens that are here; whoever has all leaves text tokens out.

        Elsewhere the cut between the ranks stays where it is.
        """
        vector, here = context.vector, context.here
        if self.placement is WHOLE:
            x, vector, here = x[:, : context.video], vectors_of(context)[0], context.samples
        scale, shift = self.norm_out(vector)
        modulate = by_sample if self.placement is WHOLE else over_stretches
        patches: Tensor = self.proj_out(modulate(self.norm, [x], [shift, scale], here).type_as(x))
        return patches

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
