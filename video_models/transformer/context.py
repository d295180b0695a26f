"""What all blocks of a transformer are given in one call, and what outlives the call.

Named tuples, because what hooks into modules from outside (ZeRO, checkpointing, the compiler) looks
for tensors in tuples and knows no classes of ours.

Legend: B batch, S latent tokens, L text tokens, I image tokens, D width, H heads, d channels of a
head. Samples of different shapes that are packed into one sequence have B = 1 and S tokens
together; there are N captions, images and times.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from video_models.layers.joining import joined
from video_models.layers.rope import Rotation, Stretch, rotation
from video_models.layers.sequence import WHOLE, Placement
from video_models.transformer.config import TransformerConfig
from video_models.transformer.cross_attention import Memory, Tokens
from video_models.transformer.spans import Grid


class Context(NamedTuple):
    """What a block is given beside the latent tokens."""

    modulation: Tensor
    """Of the time: (B, 1 or S, 6, D), or (B, 1 or S, D) where blocks project it themselves. Packed,
    one a sample (N, 1, ...) or one a token (1, S, ...)."""
    turn: Rotation
    """Rotary positions of the latent tokens, (S, d / 2)."""
    grids: tuple[Grid, ...]
    """Grid of the latent tokens; packed, of each sample in turn."""
    lengths: tuple[int, ...]
    """Tokens of each of them that are here; all of them, if nothing is split over devices."""
    source: Tokens | Memory
    """What the cross-attention attends to, or the block's own keys and values of it."""
    text_mask: Tensor | None
    """Which text tokens are seen, (B, L) bool; None for all."""
    placement: Placement = WHOLE
    """Where the latent tokens are."""


class Prepared(NamedTuple):
    """What a transformer makes of text and image alone, for all steps of a sampler.

    It holds until the weights change.
    """

    memories: tuple[Memory, ...]
    """Keys and values of each block."""
    text_mask: Tensor | None
    """Which text tokens are seen, (B, L) bool; None for all."""
    turns: "Turns"
    """Rotary positions of the grids that were asked for so far."""


class Turns:
    """Rotary positions of grids, each computed once."""

    def __init__(self, config: TransformerConfig) -> None:
        self._head_dim = config.head_dim
        self._stretch = stretch_of(config)
        self._known: dict[tuple[tuple[Grid, ...], torch.device], Rotation] = {}

    def __call__(self, grids: tuple[Grid, ...], device: torch.device) -> Rotation:
        """Return the rotation of the tokens of grids one after the other, (S, d / 2)."""
        key = (grids, device)
        if key not in self._known:
            each = [
                rotation(grid, self._head_dim, device=device, stretch=self._stretch)
                for grid in grids
            ]
            self._known[key] = joined(each, 0)
        return self._known[key]


def stretch_of(config: TransformerConfig) -> Stretch | None:
    """Return how a model tells positions beyond its training."""
    if config.extrapolation == "none":
        return None
    limit = config.max_positions
    return Stretch(config.trained_grid or (limit, limit, limit), config.extrapolation)
