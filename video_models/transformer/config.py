"""The shape of a video transformer: everything that decides its parameters and what they compute.

Importing this file needs no torch, so that recipes and presets stay light.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes and switches of a `VideoTransformer`, in Wan's design."""

    latent_channels: int
    """Channels of the noisy latents that go in and of the velocity that comes out."""

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
    """Most tokens along one axis; more is an error without `extrapolation`, because no such angle
    was trained."""

    absolute_positions: bool = False
    """Whether each token is also told where it is, by sinusoids added to its patch. Rotary
    positions say only how far apart tokens are; small models that are trained from nothing learn
    faster with both."""

    text_padding: Literal["zeros", "mask"] = "zeros"
    """What the slots after a caption's last token are: `zeros` lets zero embeddings take part in
    attention, as Wan does, `mask` hides them."""

    more_text_dims: tuple[int, ...] = ()
    """Widths of the embeddings of further text encoders; each has a projection of its own, and the
    tokens of all stand one after the other."""

    condition_channels: int = 0
    """Channels that come in beside the noisy latents: 20 for image to video in Wan 2.1 and 2.2, a
    mask of 4 and 16 of the image's latents."""

    image_dim: int | None = None
    """Width of the image tokens that each text cross-attention also attends to, as Wan 2.1's image
    to video does with CLIP's; None takes no image tokens."""

    image_positions: int | None = None
    """Image tokens of one sample, all of its images together, each with a learned position (514 in
    Wan 2.1's first and last frame to video); None learns none."""

    attention: Literal["full", "factorised", "windowed"] = "full"
    """What a token attends to: all of them; in turn, block by block, those of its own frame and
    those of its own place in all frames; or those of its window."""

    window: tuple[int, int, int] | None = None
    """Frames, rows and columns of tokens of a window; every other block moves them by half of that.
    Exactly for `windowed`."""

    full_every: int | None = None
    """Every so many blocks, one attends to all tokens all the same; None has no such blocks."""

    modulation: Literal["shared", "block"] = "shared"
    """Who turns the time into shifts, scales and gates: one projection for all blocks and a table
    of each block's own that is added, as in Wan, or a projection of each block's own, as in DiT."""

    qk_norm: Literal["across_heads", "per_head", "none"] = "across_heads"
    """Over what queries and keys are normalised."""

    extrapolation: Literal["none", "interpolation", "ntk"] = "none"
    """How rotary positions reach beyond `trained_grid`, each axis by itself: not at all, by laying
    more of them into the same range, or by turning slowly turning channels even slower."""

    trained_grid: tuple[int, int, int] | None = None
    """Most tokens along frames, rows and columns that were seen in training; None for
    `max_positions` along each."""

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
        self._check_conditions()
        self._check_attention()

    def _check_conditions(self) -> None:
        if any(width < 1 for width in self.more_text_dims):
            raise ValueError(f"more_text_dims is {self.more_text_dims!r}; each must be at least 1")
        if self.condition_channels < 0:
            raise ValueError(
                f"condition_channels is {self.condition_channels!r}; 0 takes no condition"
            )
        for name in ("image_dim", "image_positions"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value!r}; it must be at least 1, or None")
        if self.image_positions is not None and self.image_dim is None:
            raise ValueError("image_positions are given and image_dim is not; set both")

    def _check_attention(self) -> None:
        if (self.window is None) != (self.attention != "windowed"):
            raise ValueError(
                f"window is {self.window!r} and attention {self.attention!r}; "
                "a window belongs to windowed attention"
            )
        for name in ("window", "trained_grid"):
            grid = getattr(self, name)
            if grid is not None and (len(grid) != 3 or min(grid) < 1):
                raise ValueError(f"{name} is {grid!r}; it must be three positive numbers, or None")
        if self.full_every is not None and self.full_every < 1:
            raise ValueError(f"full_every is {self.full_every!r}; it must be at least 1, or None")
        if self.extrapolation == "ntk" and self.head_dim < 12:
            raise ValueError(
                f"head_dim is {self.head_dim!r}; 'ntk' stretches nothing below 12: "
                "take extrapolation='interpolation'"
            )

    @property
    def input_channels(self) -> int:
        """Channels of what is cut into patches: noisy latents and what they are given beside."""
        return self.latent_channels + self.condition_channels

    @property
    def dim(self) -> int:
        """Width of a token inside the model."""
        return self.num_heads * self.head_dim
