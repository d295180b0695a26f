"""The video transformer: noisy latents, a time and a text in, the velocity towards noise out.

Wan's design (Wan Team 2025, arXiv 2503.20314): patches, full attention over space and time with
rotary positions, attention to the text, adaptive layer norms. With `config` and weights of a
published checkpoint it computes what that model computes.

Legend: B batch, C latent channels, (T, H, W) latent frames, rows, columns, (F, R, Q) the same in
tokens, S = F R Q tokens, L text tokens, D width.
"""

import math

import torch
from torch import Tensor, nn

from video_models.layers.attention import AttentionFunction, attend
from video_models.layers.modulation import modulate, split_modulation
from video_models.layers.norms import WideLayerNorm
from video_models.layers.rope import absolute_positions, rotation
from video_models.transformer.block import ConditionEmbedder, TransformerBlock
from video_models.transformer.config import TransformerConfig


class VideoTransformer(nn.Module):
    """A diffusion transformer for video latents.

    Attributes:
        config: what it was built from.
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
        dim, patch = config.dim, config.patch_size
        self.patch_embedding = nn.Conv3d(
            config.latent_channels, dim, kernel_size=patch, stride=patch
        )
        self.condition_embedder = ConditionEmbedder(config)
        self.blocks = nn.ModuleList(
            TransformerBlock(config, attention=attention, cross_attention=cross_attention)
            for _ in range(config.num_layers)
        )
        self.norm_out = WideLayerNorm(dim, config.eps, elementwise_affine=False)
        self.proj_out = nn.Linear(dim, math.prod(patch) * config.latent_channels)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) * dim**-0.5)
        self.apply(_draw_linear)
        self._draw_ends()

    def forward(
        self,
        latents: Tensor,
        t: Tensor,
        text: Tensor,
        *,
        text_mask: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity, (B, C, T, H, W).

        Args:
            latents: noisy latents, (B, C, T, H, W).
            t: times in [0, 1], 1 is noise; (B,), or (B, S) for a time of its own for each token.
            text: text embeddings, (B, L, text_dim).
            text_mask: True for real tokens, (B, L), at least one a row; None if all are real.
            guidance: scales (B,); exactly the models with `guidance_embedding` take them.

        Raises:
            ValueError: a shape does not fit, or guidance is given or missing against the config.
        """
        grid = self.token_grid(latents)
        self._check_guidance(guidance)
        if text_mask is not None and self.config.text_padding == "zeros":
            text, text_mask = text * text_mask[..., None], None
        time, modulation, text = self.condition_embedder(t.reshape(len(t), -1), text, guidance)
        turn = rotation(grid, self.config.head_dim, device=latents.device)
        x = self.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()  # (B, S, D)
        if self.config.absolute_positions:
            x = x + absolute_positions(grid, self.config.dim, device=x.device).type_as(x)
        for block in self.blocks:
            x = block(x, text, modulation, turn, text_mask)
        shift, scale = split_modulation(self.scale_shift_table, time[..., None, :])
        x = self.proj_out(modulate(self.norm_out(x), shift, scale).type_as(x))
        return self._unpatch(x, grid)

    def token_grid(self, latents: Tensor) -> tuple[int, int, int]:
        """Return how many tokens latents make along frames, rows and columns."""
        patch, limit = self.config.patch_size, self.config.max_positions
        _, C, *size = latents.shape
        if self.config.latent_channels != C or len(size) != 3:
            raise ValueError(
                f"latents have shape {tuple(latents.shape)}; this model takes "
                f"(batch, {self.config.latent_channels}, frames, rows, columns)"
            )
        if any(length % step for length, step in zip(size, patch, strict=True)):
            raise ValueError(f"latents of size {tuple(size)} do not divide into patches of {patch}")
        F, R, Q = (length // step for length, step in zip(size, patch, strict=True))
        if max(F, R, Q) > limit:
            raise ValueError(f"{max(F, R, Q)} tokens along one axis; max_positions allows {limit}")
        return F, R, Q

    def block_names(self) -> tuple[str, ...]:
        """Return the names of the modules to checkpoint, shard or compile one by one."""
        return tuple(f"blocks.{index}" for index in range(len(self.blocks)))

    def _unpatch(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Lay the patches of tokens out as latents."""
        x = x.reshape(len(x), *grid, *self.config.patch_size, -1)  # (B, F, R, Q, f, r, q, C)
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def _check_guidance(self, guidance: Tensor | None) -> None:
        if (guidance is None) == self.config.guidance_embedding:
            given, takes = guidance is not None, self.config.guidance_embedding
            raise ValueError(
                f"guidance is {'given' if given else 'missing'} and guidance_embedding is {takes}; "
                "pass guidance to exactly the models that were distilled over a range of scales"
            )

    @torch.no_grad()
    def _draw_ends(self) -> None:
        """Draw what enters and leaves the blocks as Wan's own code does."""
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))
        embedder = self.condition_embedder
        for part in (embedder.time_embedder, embedder.text_embedder):
            for layer in (part.linear_1, part.linear_2):
                nn.init.normal_(layer.weight, std=0.02)
        if embedder.guidance_embedder is not None:
            nn.init.zeros_(embedder.guidance_embedder.linear_2.weight)
        if self.config.zero_init_output:
            nn.init.zeros_(self.proj_out.weight)


def _draw_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
