"""What a joint transformer is told as one vector: time, guidance scale, the text as a whole.

Names of parameters are those of the published checkpoints.

Legend: B batch, S tokens (1 where all share one time), D width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from video_models.layers.embeddings import NumberEmbedder, WideLinear
from video_models.transformer.embedders import TIME_UNITS

FREQ_DIM = 256
"""Width of the sinusoids that numbers enter by, in all published models."""

GUIDANCE_UNITS = 1000.0
"""Published models are given a thousand times the guidance scale."""


class Modulation(nn.Module):
    """Shifts, scales and gates of one block, projected from the vector; in float32 or wider."""

    def __init__(self, dim: int, parts: int):
        super().__init__()
        self.parts = parts
        self.linear = WideLinear(dim, parts * dim)

    def forward(self, vector: Tensor) -> tuple[Tensor, ...]:
        """Return the parts, (B, S, D) each, from (B, S, D)."""
        projected: Tensor = self.linear(F.silu(vector))
        return projected.chunk(self.parts, dim=-1)


class VectorEmbedder(nn.Module):
    """A vector through a two-layer network."""

    def __init__(self, dim_in: int, dim: int):
        super().__init__()
        self.linear_1 = WideLinear(dim_in, dim)
        self.linear_2 = WideLinear(dim, dim)

    def forward(self, vector: Tensor) -> Tensor:
        """Return (B, D) from (B, dim_in)."""
        embedded: Tensor = self.linear_2(F.silu(self.linear_1(vector)))
        return embedded


class VectorSum(nn.Module):
    """Time, a vector of the text and the guidance scale, embedded and added.

    Args:
        dim: D.
        text_dim: width of the vector of the text; None takes none.
        guidance: whether the guidance scale is one of them.
    """

    def __init__(self, dim: int, *, text_dim: int | None, guidance: bool = False):
        super().__init__()
        self.timestep_embedder = NumberEmbedder(FREQ_DIM, dim)
        self.text_embedder = None if text_dim is None else VectorEmbedder(text_dim, dim)
        self.guidance_embedder = NumberEmbedder(FREQ_DIM, dim) if guidance else None

    def forward(self, t: Tensor, beside: Tensor | None) -> Tensor:
        """Return (B, S, D), float32 or wider.

        Args:
            t: times in [0, 1], (B, S).
            beside: what `beside` returned, (B, 1, D), or spread over tokens, (B, S, D).
        """
        time: Tensor = self.timestep_embedder(t * TIME_UNITS)
        return time if beside is None else time + beside

    def beside(self, text: Tensor | None, guidance: Tensor | None = None) -> Tensor | None:
        """Return what is added to the time of a sample, (B, 1, D); None for nothing.

        Args:
            text: what `embed_text` returned, (B, D).
            guidance: scales, (B,).
        """
        parts = [] if text is None else [text]
        if self.guidance_embedder is not None and guidance is not None:
            parts.append(self.guidance_embedder(guidance * GUIDANCE_UNITS))
        return sum(parts[1:], start=parts[0])[:, None] if parts else None

    def embed_text(self, text: Tensor | None) -> Tensor | None:
        """Return the part that no time changes, (B, D) from (B, text_dim)."""
        if self.text_embedder is None or text is None:
            return None
        embedded: Tensor = self.text_embedder(text)
        return embedded
