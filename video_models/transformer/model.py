"""The video transformer: noisy latents, a time and a text in, the velocity towards noise out.

Wan's design (Wan Team 2025, arXiv 2503.20314): patches, attention over space and time with rotary
positions, attention to the text, adaptive layer norms. With `config` and weights of a published
checkpoint it computes what that model computes.

    v = model(latents, t, text, text_mask=mask)
    prepared = model.prepare(text, text_mask=mask)      # once a prompt
    v = model(latents, t, prepared)                     # the same, at every step of a sampler
    v, tokens = model(latents, t, text, features=(3,))  # and what left block 3
    vs = model([clip, picture], t, text)                # different shapes, packed into one sequence

Legend: B batch, C latent channels, (T, H, W) latent frames, rows, columns, (F, R, Q) the same in
tokens, S = F R Q tokens, L text tokens, I image tokens, D width; N packed samples.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from video_models.layers.attention import AttentionFunction, attend
from video_models.layers.joining import joined
from video_models.layers.modulation import split_modulation
from video_models.layers.norms import ModulatedLayerNorm
from video_models.layers.rope import Rotation, absolute_positions
from video_models.layers.sequence import WHOLE, Placement
from video_models.transformer.block import TransformerBlock
from video_models.transformer.config import TransformerConfig
from video_models.transformer.context import Context, Prepared, Turns, stretch_of
from video_models.transformer.cross_attention import Memory, Tokens
from video_models.transformer.embedders import ConditionEmbedder
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
    lay_out_texts,
)
from video_models.transformer.packing import by_sample, lengths_of
from video_models.transformer.spans import Grid


class VideoTransformer(nn.Module):
    """A diffusion transformer for video latents.

    Attributes:
        config: what it was built from.
        placement: where the tokens of a sample are computed; may be replaced at any time.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        attention: AttentionFunction = attend,
        cross_attention: AttentionFunction = attend,
    ):
        super().__init__()
        self.config = config
        self.placement: Placement = WHOLE
        dim, patch = config.dim, config.patch_size
        self.patch_embedding = nn.Conv3d(
            config.input_channels, dim, kernel_size=patch, stride=patch
        )
        self.condition_embedder = ConditionEmbedder(config)
        self.blocks = nn.ModuleList(
            TransformerBlock(config, index, attention=attention, cross_attention=cross_attention)
            for index in range(config.num_layers)
        )
        self.norm_out = ModulatedLayerNorm(config.eps)
        self.proj_out = nn.Linear(dim, math.prod(patch) * config.latent_channels)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) * dim**-0.5)
        self.apply(_draw_linear)
        self._draw_ends()

    def forward(
        self,
        latents: Samples,
        t: Times,
        text: Texts | Prepared,
        *,
        text_mask: Masks = None,
        image: Tensor | None = None,
        condition: Samples | None = None,
        guidance: Tensor | None = None,
        features: Collection[int] = (),
    ) -> Samples | tuple[Samples, dict[int, Tensor]]:
        """Return the velocity, (B, C, T, H, W); with `features`, and the tokens after those blocks.

        A list of N samples of different shapes is packed into one sequence: all that is (B, ...)
        below is then (N, ...), and a list of velocities is returned.

        Args:
            latents: noisy latents, (B, C, T, H, W), or a list of (C, T, H, W).
            t: times in [0, 1], 1 is noise; (B,), or (B, S) for a time of its own for each token,
                which is a list of (S,) for a list of latents.
            text: text embeddings, (B, L, text_dim), or a list of those of each text encoder; or
                what `prepare` returned, in place of text, mask and image.
            text_mask: True for real tokens, (B, L), at least one a row; None if all are real; a
                list of those for a list of texts.
            image: tokens of an image encoder, (B, I, image_dim); exactly the models with
                `image_dim` take them.
            condition: what is known of the clip, (B, condition_channels, T, H, W), or a list; such
                as Wan's mask of given frames and their latents.
            guidance: scales (B,); exactly the models with `guidance_embedding` take them.
            features: blocks after which the tokens are returned as well, (B, S, D) by number;
                of packed samples (1, S, D), one after the other.

        Raises:
            ValueError: a shape does not fit, or an input is given or missing against the config.
        """
        grids = tuple(self.token_grid(group) for group in groups_of(latents))
        lengths = lengths_of(grids)
        check_given(self.config, guidance=guidance, condition=condition)
        numbers = lay_out_numbers(t, guidance, samples=len(latents), lengths=lengths)
        time, modulation = self.condition_embedder(*numbers)
        sources, mask, turns = self._sources(text, text_mask, image)
        check_count(sources[0].captions, len(latents))
        turn = turns(grids, time.device)
        time, modulation, turn, here = self._placed(time, modulation, turn, lengths)
        context = Context(modulation, turn, grids, here, sources[0], mask, self.placement)
        groups = lay_out_latents(self.config.condition_channels, latents, condition)
        x = joined([self._embed(z, grid) for z, grid in zip(groups, grids, strict=True)], 1)
        x, kept = self._pass_blocks(self.placement.split(x, 1), context, sources, features)
        shift, scale = split_modulation(self.scale_shift_table, time[..., None, :])
        x = by_sample(self.norm_out, [x], [shift, scale], here).type_as(x)
        parts = torch.split(self.placement.join(self.proj_out(x), 1), list(lengths), dim=1)
        out = [self._unpatch(part, grid) for part, grid in zip(parts, grids, strict=True)]
        velocity = out[0] if isinstance(latents, Tensor) else [v[0] for v in out]
        return (velocity, kept) if features else velocity

    def prepare(
        self, text: Texts, *, text_mask: Masks = None, image: Tensor | None = None
    ) -> Prepared:
        """Return what `forward` makes of text and image alone, to be given in their place.

        A sampler calls the model at many times with one prompt; projections, keys and values of the
        text and rotary positions are then computed once. It holds until the weights change.
        """
        tokens, mask = self._tokens(text, text_mask, image)
        memories = tuple(block.attn2.remember(tokens) for block in self._blocks)
        return Prepared(memories, mask, Turns(self.config))

    def token_grid(self, latents: Tensor) -> Grid:
        """Return how many tokens latents make along frames, rows and columns."""
        config = self.config
        limit = config.max_positions if config.extrapolation == "none" else None
        return grid_of(
            latents, channels=config.latent_channels, patch=config.patch_size, limit=limit
        )

    def block_names(self) -> tuple[str, ...]:
        """Return the names of the modules to checkpoint, shard or compile one by one."""
        return tuple(f"blocks.{index}" for index in range(len(self.blocks)))

    @property
    def _blocks(self) -> Iterator[TransformerBlock]:
        return (cast(TransformerBlock, block) for block in self.blocks)

    def _tokens(
        self, text: Texts, mask: Masks, image: Tensor | None
    ) -> tuple[Tokens, Tensor | None]:
        """Return text and image as tokens, and which of the text's are seen, (B, L)."""
        embedder = self.condition_embedder
        check_given(self.config, image=image)
        texts, seen = lay_out_texts(self.config, text, mask)
        if embedder.image_embedder is None:
            return Tokens(embedder.texts(texts), None), seen
        return Tokens(embedder.texts(texts), embedder.image_embedder(image)), seen

    def _sources(
        self, text: Texts | Prepared, mask: Masks, image: Tensor | None
    ) -> tuple[Sequence[Tokens | Memory], Tensor | None, Turns]:
        """Return what each block attends to, which text tokens are seen, and the positions."""
        if not isinstance(text, Prepared):
            tokens, seen = self._tokens(text, mask, image)
            return [tokens] * len(self.blocks), seen, Turns(self.config)
        if mask is not None or image is not None:
            raise ValueError("a prepared text has its mask and image; leave them out")
        return text.memories, text.text_mask, text.turns

    def _embed(self, latents: Tensor, grid: Grid) -> Tensor:
        """Return the tokens of latents and what they are given beside, (B, S, D)."""
        x: Tensor = self.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
        if self.config.absolute_positions:
            stretch = stretch_of(self.config)
            where = absolute_positions(grid, self.config.dim, device=x.device, stretch=stretch)
            x = x + where.type_as(x)
        return x

    def _pass_blocks(
        self,
        x: Tensor,
        context: Context,
        sources: Sequence[Tokens | Memory],
        features: Collection[int],
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the tokens after all blocks, and those after the blocks of some numbers."""
        if unknown := sorted(set(features) - set(range(len(self.blocks)))):
            raise ValueError(f"features name blocks {unknown}; the last is {len(self.blocks) - 1}")
        kept: dict[int, Tensor] = {}
        for index, (block, source) in enumerate(zip(self.blocks, sources, strict=True)):
            x = block(x, context._replace(source=source))
            if index in features:
                kept[index] = self.placement.join(x, 1)
        return x, kept

    def _placed(
        self, time: Tensor, modulation: Tensor, turn: Rotation, lengths: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Rotation, tuple[int, ...]]:
        """Return the parts that are here of what belongs to single tokens, and how many there are.

        The last is the number of tokens of each packed sample.
        """
        if self.placement is WHOLE:
            return time, modulation, turn, lengths
        if time.shape[1] > 1:
            time, modulation = (self.placement.split(x, 1) for x in (time, modulation))
        owners = torch.repeat_interleave(torch.tensor(lengths, device="cpu"))  # (S,)
        here = torch.bincount(self.placement.split(owners, 0), minlength=len(lengths))
        return time, modulation, self.placement.split(turn, 0), tuple(here.tolist())

    def _unpatch(self, x: Tensor, grid: Grid) -> Tensor:
        """Lay the patches of tokens out as latents."""
        x = x.reshape(len(x), *grid, *self.config.patch_size, -1)  # (B, F, R, Q, f, r, q, C)
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    @torch.no_grad()
    def _draw_ends(self) -> None:
        """Draw what enters and leaves the blocks as Wan's own code does."""
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))
        embedder = self.condition_embedder
        for part in (embedder.time_embedder, embedder.text_embedder, *embedder.more_text_embedders):
            for layer in (part.linear_1, part.linear_2):
                nn.init.normal_(layer.weight, std=0.02)
        if embedder.guidance_embedder is not None:
            nn.init.zeros_(embedder.guidance_embedder.linear_2.weight)
        for block in self._blocks:
            if block.time_proj is not None:  # every block starts as the identity, as in DiT
                nn.init.zeros_(block.time_proj.weight)
        if self.config.zero_init_output:
            nn.init.zeros_(self.proj_out.weight)


def _draw_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
