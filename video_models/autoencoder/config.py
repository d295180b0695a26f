"""The shape of a video autoencoder: everything that decides its parameters and what they compute.

Importing this file needs no torch, so that recipes and presets stay light.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

Padding = Literal["zero", "replicate", "first_frame"]
Norm = Literal["channel_rms", "group_frame", "group_clip"]
Resampler = Literal["wan", "strided", "shuffle"]
MidAttention = Literal["frame", "clip"]


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes and switches of an `Autoencoder`; where nothing is said, Wan's design.

    There are `len(dim_mult)` levels; a resampler that halves space, time or both stands between
    each two of them. The switches are `padding`, `norm`, `resampler` and `mid_attention`, each by
    itself; the few that exclude each other are refused, and `presets.py` has what published models
    set together.
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

    time_up: tuple[bool, ...] | None = None
    """Whether the resampler after each decoder level but the last doubles time, from the latents
    up; None for `time_down` in reverse."""

    decoder_dim: int | None = None
    """Channels that `dim_mult` multiplies in the decoder; None for `base_dim`."""

    channels: int = 3
    """Channels of the video."""

    patch_size: int = 1
    """Side of the square of pixels that is folded into channels before the first convolution."""

    kernel_frames: int = 3
    """Frames that a kernel spans; 1 leaves all mixing over time to the resamplers, at a third of
    the cost."""

    padding: Padding = "zero"
    """What convolutions see around a frame and before a clip: `zero` for zeros; `replicate` for the
    nearest pixel and the first frame (HunyuanVideo); `first_frame` for zeros around it and the
    first frame before it (CogVideoX). Wan's resamplers have a rule of their own."""

    norm: Norm = "channel_rms"
    """What normalises: `channel_rms` each position over its channels; `group_frame` groups of
    channels over a frame, so frames cannot be tiled; `group_clip` groups over the whole clip
    (HunyuanVideo), so it is no longer causal and a clip cannot be cut in time either."""

    norm_groups: int = 32
    """Groups of channels of the two group norms."""

    resampler: Resampler = "wan"
    """What stands between levels: `wan` changes space, then time; `strided` is one convolution with
    a stride down, and repeated pixels and a convolution up (HunyuanVideo); `shuffle` moves pixels
    into channels and back, with shortcuts past itself and past the convolutions at the latents
    (HunyuanVideo 1.5, after DC-AE)."""

    mid_attention: MidAttention = "frame"
    """What a position attends to at the bottom: its own `frame`, or the `clip` up to its own frame
    (a stream then keeps a key and a value of all that was seen)."""

    latent_convs: bool = True
    """Whether a convolution of 1 x 1 mixes the channels on either side of the latents; with tokens
    there always is one."""

    residual_resampling: bool = False
    """Whether each level with `wan` resamplers also passes its input by, averaged or repeated to
    size, as in Wan 2.2."""

    dropout: float = 0.0
    """Share of activations dropped inside residual blocks while training."""

    latents_mean: tuple[float, ...] | None = None
    """Mean of each latent channel over a dataset; None for zeros."""

    latents_std: tuple[float, ...] | None = None
    """Standard deviation of each latent channel over a dataset; None for ones."""

    def __post_init__(self) -> None:
        _check_sizes(self)
        _check_levels(self)
        _check_switches(self)
        _check_widths(self)
        _check_normalisation(self)

    @property
    def width_up(self) -> int:
        """Channels that `dim_mult` multiplies in the decoder, whether given or not."""
        return self.base_dim if self.decoder_dim is None else self.decoder_dim

    @property
    def dims(self) -> tuple[int, ...]:
        """Width of each encoder level, from the pixels down."""
        return tuple(self.base_dim * mult for mult in self.dim_mult)

    @property
    def dims_up(self) -> tuple[int, ...]:
        """Width of each decoder level, from the latents up."""
        return tuple(self.width_up * mult for mult in reversed(self.dim_mult))

    @property
    def time_growth(self) -> tuple[bool, ...]:
        """What `time_up` says, whether given or not."""
        return self.time_down[::-1] if self.time_up is None else self.time_up

    def shrinkage(self, level: int) -> tuple[bool, bool]:
        """Say whether space and time are halved behind an encoder level, from the pixels down."""
        if level == len(self.space_down):
            return False, False
        return self.space_down[level], self.time_down[level]

    def growth(self, level: int) -> tuple[bool, bool]:
        """Say whether space and time are doubled behind a decoder level, from the latents up."""
        if level == len(self.space_down):
            return False, False
        return self.space_down[::-1][level], self.time_growth[level]

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

    def check_stream(self) -> None:
        """Refuse to cut a clip in time where that would change its numbers.

        Raises:
            ValueError: a switch makes frames depend on later ones; the message names it.
        """
        if self.norm == "group_clip":
            raise ValueError(
                "norm='group_clip' takes its mean and variance over the whole clip, so a clip in "
                "chunks has no exact result; encode and decode it whole, or set norm to "
                "group_frame or channel_rms and train again"
            )

    def check_tiles(self) -> None:
        """Refuse to cut frames into tiles where no halo would keep their numbers.

        Raises:
            ValueError: a switch makes each position depend on the whole frame.
        """
        if self.norm != "channel_rms":
            raise ValueError(
                f"norm={self.norm!r} takes its mean and variance over whole frames, so tiles have "
                "no exact result; use whole frames, or blended_encode and blended_decode, "
                "which are approximate"
            )

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
        "norm_groups": config.norm_groups,
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
    if config.time_up is None:
        return
    if sorted(config.time_up) != sorted(time):
        raise ValueError(
            f"time_up is {config.time_up!r}; it must double time at as many of {between} levels as "
            f"time_down={time!r} halves it"
        )
    if not all(any(config.growth(level)) for level in range(between)):
        raise ValueError(
            f"space_down={space!r} and time_up={config.time_up!r} leave a level that doubles "
            "neither; set one of the two"
        )


def _check_switches(config: AutoencoderConfig) -> None:
    switches = {
        "padding": Padding,
        "norm": Norm,
        "resampler": Resampler,
        "mid_attention": MidAttention,
    }
    for name, values in switches.items():
        if getattr(config, name) not in get_args(values):
            raise ValueError(
                f"{name} is {getattr(config, name)!r}; it is {' or '.join(get_args(values))}"
            )
    if config.residual_resampling and config.resampler != "wan":
        raise ValueError(
            f"residual_resampling goes with resampler='wan'; {config.resampler!r} "
            "has no such shortcut or one of its own"
        )
    if config.resampler == "strided" and config.padding == "zero":
        raise ValueError(
            "resampler='strided' counts the first frame as often as the later ones; "
            "set padding to replicate or first_frame"
        )
    if config.norm == "group_clip" and config.mid_attention == "frame":
        raise ValueError(
            "mid_attention='frame' knows one frame at a time and norm='group_clip' needs all; "
            "set mid_attention to clip or norm to group_frame"
        )


def _check_widths(config: AutoencoderConfig) -> None:
    """Refuse widths that cannot be split as the switches ask."""
    up = config.dims_up
    halves = config.resampler == "wan" and not config.residual_resampling
    if halves and any(dim % 2 for dim in up[:-1]):
        raise ValueError(
            f"the decoder's levels have {list(up)} channels, and all but the last are halved on "
            "the way up; make decoder_dim (or base_dim) even"
        )
    normed = {*config.dims, *up, *(dim // 2 for dim in up[:-1] if halves)}
    if config.norm != "channel_rms" and any(dim % config.norm_groups for dim in normed):
        raise ValueError(
            f"norm_groups is {config.norm_groups!r}; it must divide the widths {sorted(normed)}"
        )
    if config.resampler == "shuffle":
        _check_shuffle(config)


def _check_shuffle(config: AutoencoderConfig) -> None:
    """Refuse widths between which pixels cannot be dealt out to channels evenly."""
    down, up, latents = config.dims, config.dims_up, config.latent_channels
    evenly = down[-1] % (2 * latents) == up[0] % latents == 0
    for level, (wide, deep) in enumerate(pairwise(down)):
        pixels, frames = 1 + 3 * config.space_down[level], 1 + config.time_down[level]
        evenly &= pixels * wide % deep == deep % (pixels * frames) == 0
    for level, (deep, wide) in enumerate(pairwise(up)):
        space, time = config.growth(level)
        pixels, frames = 1 + 3 * space, 1 + time
        evenly &= pixels * wide % deep == deep % (pixels * frames) == 0
    if not evenly:
        raise ValueError(
            f"resampler='shuffle' cannot deal {list(down)} channels and {latents} latent ones out "
            "evenly; between levels a width may grow fourfold at most and divides by the positions "
            "that it takes in, and the last one by twice latent_channels"
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
