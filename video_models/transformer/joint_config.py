"""The shape of a joint transformer: everything that decides its parameters and what they compute.

Importing this file needs no torch, so that recipes and presets stay light.
"""

from dataclasses import dataclass

from video_models.transformer.config import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class JointTransformerConfig:
    """Sizes and switches of a `JointTransformer`, in the design of HunyuanVideo and FLUX."""

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
    """Blocks in which video and text have weights of their own; they come first."""

    num_single_layers: int
    """Blocks in which they share all weights."""

    num_refiner_layers: int = 2
    """Blocks in which the text attends to itself, the time and the text's mean looking on, before
    it meets the video; 0 leaves the text as it is, as in FLUX."""

    pooled_dim: int | None = None
    """Width of one embedding of the whole text that joins the time, as CLIP gives it; None takes
    none."""

    guidance_embedding: bool = False
    """Whether the guidance scale is an input, as for models that learned classifier-free guidance
    by distillation."""

    condition_channels: int = 0
    """Channels that come in beside the noisy latents, as for image to video."""

    patch_size: tuple[int, int, int] = (1, 2, 2)
    """Latent frames, rows and columns that make one token."""

    rope_axes: tuple[int, int, int] | None = None
    """Channels of a head that tell frames, rows and columns, each even; (16, 56, 56) in
    HunyuanVideo. None shares a head out nearly equally, as Wan does."""

    rope_theta: float = 256.0
    """How much slower the last channel pair of an axis would turn than the first."""

    max_positions: int = 1024
    """Most tokens along one axis; more is an error, because no such angle was trained."""

    zero_init_output: bool = True
    """Whether an untrained model answers with zeros; False draws the output layer at random."""

    def __post_init__(self) -> None:
        for name in (
            *("latent_channels", "text_dim", "num_heads", "ffn_dim", "num_layers"),
            *("num_single_layers", "num_refiner_layers", "max_positions", "pooled_dim"),
        ):
            least = 0 if name.endswith("_layers") else 1
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name} is {value!r}; it must be at least {least}")
        if self.head_dim < 6 or self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim!r}; it must be even and at least 6")
        if len(self.patch_size) != 3 or min(self.patch_size) < 1:
            raise ValueError(
                f"patch_size is {self.patch_size!r}; it must be three positive numbers"
            )
        if self.condition_channels < 0:
            raise ValueError(
                f"condition_channels is {self.condition_channels!r}; 0 takes no condition"
            )
        axes = self.rope_axes
        if axes is not None and (
            len(axes) != 3 or sum(axes) != self.head_dim or any(n < 2 or n % 2 for n in axes)
        ):
            raise ValueError(
                f"rope_axes is {axes!r}; it must be three even numbers that add up to head_dim, "
                f"{self.head_dim}"
            )

    @property
    def input_channels(self) -> int:
        """Channels of what is cut into patches: noisy latents and what they are given beside."""
        return self.latent_channels + self.condition_channels

    @property
    def dim(self) -> int:
        """Width of a token inside the model."""
        return self.num_heads * self.head_dim


AnyTransformerConfig = TransformerConfig | JointTransformerConfig
"""Of a transformer of either family."""
