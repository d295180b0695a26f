"""The shape of a video autoencoder: everything that decides its parameters and what they compute.

Importing this file needs no torch, so that recipes and presets stay light.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes and switches of an `Autoencoder`, in Wan's design.

    There are `len(dim_mult)` levels; a resampler that halves space, time or both stands between
    each two of them.
    """

    base_dim: int
    """Channels that `dim_mult` multiplies in the encoder."""

    latent_channels: int
    """Channels of a latent."""

    dim_mult: tuple[int, ...]
    """Width of each level, in `base_dim`, from the pixels down."""

    num_res_blocks: int
    """Residual blocks of an encoder level; a decoder level has one more."""

    space_down: tuple[bool, ...]
    """Whether the resampler after each level but the last halves height and width."""

    time_down: tuple[bool, ...]
    """Whether the resampler after each level but the last halves time (the first frame stays)."""

    decoder_dim: int | None = None
    """Channels that `dim_mult` multiplies in the decoder; None for `base_dim`."""

    channels: int = 3
    """Channels of the video."""

    patch_size: int = 1
    """Side of the square of pixels that is folded into channels before the first convolution."""

    kernel_frames: int = 3
    """Frames that a kernel spans; 1 leaves all mixing over time to the resamplers, at a third of
    the cost."""

    residual_resampling: bool = False
    """Whether each level also passes its input by, averaged or repeated to size, as in Wan 2.2."""

    dropout: float = 0.0
    """Share of activations dropped inside residual blocks while training."""

    latents_mean: tuple[float, ...] | None = None
    """Mean of each latent channel over a dataset; None for zeros."""

    latents_std: tuple[float, ...] | None = None
    """Standard deviation of each latent channel over a dataset; None for ones."""

    def __post_init__(self) -> None:
        _check_sizes(self)
        _check_levels(self)
        _check_normalisation(self)

    @property
    def width_up(self) -> int:
        """Channels that `dim_mult` multiplies in the decoder, whether given or not."""
        return self.base_dim if self.decoder_dim is None else self.decoder_dim

    @property
    def kernel(self) -> tuple[int, int, int]:
        """Frames, rows and columns that a kernel spans."""
        return self.kernel_frames, 3, 3

    @property
    def spatial_factor(self) -> int:
        """Pixels along one side of what becomes one latent position."""
        return self.patch_size << sum(self.space_down)

    @property
    def temporal_factor(self) -> int:
        """Frames that become one latent frame, after the first, which stays alone."""
        return 1 << sum(self.time_down)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return (C, T, H, W) of the latents of a video.

        Raises:
            ValueError: a video of that length or size cannot be encoded.
        """
        factor = self.temporal_factor
        if frames < 1 or (frames - 1) % factor:
            raise ValueError(
                f"a clip of {frames} frames does not fit this autoencoder; allowed are "
                f"1 + {factor} n frames: {', '.join(str(1 + factor * n) for n in range(4))}, ..."
            )
        side = self.spatial_factor
        if min(height, width) < side or height % side or width % side:
            raise ValueError(
                f"frames of {height} x {width} pixels do not fit this autoencoder; "
                f"allowed are positive multiples of {side}"
            )
        return self.latent_channels, 1 + (frames - 1) // factor, height // side, width // side


def _check_sizes(config: AutoencoderConfig) -> None:
    sizes = {
        "base_dim": config.base_dim,
        "decoder_dim": config.width_up,
        "latent_channels": config.latent_channels,
        "num_res_blocks": config.num_res_blocks,
        "channels": config.channels,
        "kernel_frames": config.kernel_frames,
        "patch_size": config.patch_size,
        "dim_mult": min(config.dim_mult, default=0),
    }
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {getattr(config, name)!r}; it must be at least 1")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout is {config.dropout!r}; it must lie in [0, 1)")


def _check_levels(config: AutoencoderConfig) -> None:
    space, time, between = config.space_down, config.time_down, len(config.dim_mult) - 1
    if not len(space) == len(time) == between:
        raise ValueError(
            f"space_down has {len(space)} and time_down {len(time)} entries; "
            f"with {len(config.dim_mult)} levels in dim_mult each needs {between}"
        )
    if not all(s or t for s, t in zip(space, time, strict=True)):
        raise ValueError(
            f"space_down={space!r} and time_down={time!r} leave a level that halves "
            "neither; set one of the two, or drop the level from dim_mult"
        )
    halved = [config.width_up * mult for mult in config.dim_mult[1:]]
    if not config.residual_resampling and any(dim % 2 for dim in halved):
        raise ValueError(
            f"the decoder's levels have {halved} channels, and each is halved on the way up; "
            "make decoder_dim (or base_dim) even"
        )


def _check_normalisation(config: AutoencoderConfig) -> None:
    for name in ("latents_mean", "latents_std"):
        values = getattr(config, name)
        if values is not None and len(values) != config.latent_channels:
            raise ValueError(
                f"{name} has {len(values)} entries; latent_channels is {config.latent_channels}"
            )
    if config.latents_std is not None and min(config.latents_std) <= 0:
        raise ValueError(f"latents_std is {config.latents_std!r}; each entry must be above 0")
