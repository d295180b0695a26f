"""The shape of a video transformer: everything that decides its parameters and what they compute.

Importing this file needs no torch, so that recipes and presets stay light.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes and switches of a `VideoTransformer`, in Wan's design."""

    latent_channels: int
    """Channels of the latents that go in and of the velocity that comes out."""

    text_dim: int
    """Width of one text embedding, as the text encoder gives it."""

    num_heads: int
    """Attention heads; the width of the model is `num_heads * head_dim`."""

    head_dim: int
    """Width of one head: even, and at least 6, so that each axis gets a rotary pair."""

    ffn_dim: int
    """Inner width of the feed-forward network of each block."""

    num_layers: int
    """Number of transformer blocks."""

    patch_size: tuple[int, int, int] = (1, 2, 2)
    """Latent frames, rows and columns that make one token."""

    freq_dim: int = 256
    """Width of the sinusoid that the time enters by; even."""

    cross_attention_norm: bool = True
    """Whether a learned LayerNorm stands before the text cross-attention."""

    eps: float = 1e-6
    """Added to variances before their root."""

    max_positions: int = 1024
    """Most tokens along one axis; more is an error, because no such angle was trained."""

    absolute_positions: bool = False
    """Whether each token is also told where it is, by sinusoids added to its patch. Rotary
    positions say only how far apart tokens are; small models that are trained from nothing learn
    faster with both."""

    text_padding: Literal["zeros", "mask"] = "zeros"
    """What the slots after a caption's last token are: `zeros` lets zero embeddings take part in
    attention, as Wan does, `mask` hides them."""

    guidance_embedding: bool = False
    """Whether the guidance scale is an input, as for students of a range of scales."""

    zero_init_output: bool = True
    """Whether an untrained model answers with zeros; False draws the output layer at random."""

    def __post_init__(self) -> None:
        sizes = (
            "latent_channels",
            "text_dim",
            "num_heads",
            "ffn_dim",
            "num_layers",
            "max_positions",
        )
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be at least 1")
        if self.head_dim < 6 or self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim!r}; it must be even and at least 6")
        if self.freq_dim < 2 or self.freq_dim % 2:
            raise ValueError(f"freq_dim is {self.freq_dim!r}; it must be even and at least 2")
        if len(self.patch_size) != 3 or min(self.patch_size) < 1:
            raise ValueError(
                f"patch_size is {self.patch_size!r}; it must be three positive numbers"
            )

    @property
    def dim(self) -> int:
        """Width of a token inside the model."""
        return self.num_heads * self.head_dim
