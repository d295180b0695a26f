"""The layers that the switches of an `AutoencoderConfig` stand for.

A new kind of padding, norm or resampler is a value in `config.py`, a layer, and a line here.
"""

from torch import nn

from video_models.autoencoder.config import AutoencoderConfig
from video_models.layers.causal_conv import CausalConv3d
from video_models.layers.channel_norm import ChannelNorm
from video_models.layers.edge_conv import EdgeConv3d
from video_models.layers.group_norm import GroupNorm
from video_models.layers.resample import Downsample, Upsample
from video_models.layers.shuffle_resample import ShuffleDownsample, ShuffleUpsample
from video_models.layers.strided_resample import RepeatUpsample, StridedDownsample

RESAMPLERS = (
    Downsample,
    RepeatUpsample,
    ShuffleDownsample,
    ShuffleUpsample,
    StridedDownsample,
    Upsample,
)
"""All layers that change the resolution."""


def convolution(in_dim: int, out_dim: int, config: AutoencoderConfig) -> CausalConv3d:
    """Build a convolution with the kernel and the padding of a config."""
    if config.padding == "zero":
        return CausalConv3d(in_dim, out_dim, config.kernel)
    return _edge_conv(in_dim, out_dim, config)


def norm(dim: int, config: AutoencoderConfig, *, num_axes: int) -> ChannelNorm | GroupNorm:
    """Build a norm for videos (3 axes behind the channels) or images (2)."""
    if config.norm == "channel_rms":
        return ChannelNorm(dim, num_axes=num_axes)
    per_frame = config.norm == "group_frame"
    return GroupNorm(dim, num_groups=config.norm_groups, per_frame=per_frame)


def downsampler(config: AutoencoderConfig, level: int) -> list[nn.Module]:
    """Build the resampler behind an encoder level; none behind the last."""
    space, time = config.shrinkage(level)
    if not (space or time):
        return []
    in_dim, out_dim = config.dims[level], entry_down(config, level + 1)
    if config.resampler == "wan":
        return [Downsample(in_dim, space=space, time=time)]
    if config.resampler == "strided":
        stride = (1 + time, 1 + space, 1 + space)
        conv = _edge_conv(in_dim, out_dim, config, time=time, stride=stride)
        return [StridedDownsample(conv)]
    narrow = convolution(in_dim, out_dim // _block(space, time), config)
    return [ShuffleDownsample(narrow, space=space, time=time)]


def upsampler(config: AutoencoderConfig, level: int) -> list[nn.Module]:
    """Build the resampler behind a decoder level; none behind the last."""
    space, time = config.growth(level)
    if not (space or time):
        return []
    in_dim, out_dim = config.dims_up[level], entry_up(config, level + 1)
    if config.resampler == "wan":
        return [Upsample(in_dim, out_dim, space=space, time=time)]
    if config.resampler == "strided":
        conv = _edge_conv(in_dim, out_dim, config, time=time)
        return [RepeatUpsample(conv, space=space, time=time)]
    deep = convolution(in_dim, out_dim * _block(space, time), config)
    return [ShuffleUpsample(deep, space=space, time=time)]


def entry_down(config: AutoencoderConfig, level: int) -> int:
    """Return the channels that enter an encoder level."""
    if level == 0:
        return config.base_dim
    return config.dims[level if config.resampler == "shuffle" else level - 1]


def entry_up(config: AutoencoderConfig, level: int) -> int:
    """Return the channels that enter a decoder level."""
    if level == 0 or config.resampler == "shuffle":
        return config.dims_up[level]
    halved = config.resampler == "wan" and not config.residual_resampling
    return config.dims_up[level - 1] // (1 + halved)


def _edge_conv(
    in_dim: int,
    out_dim: int,
    config: AutoencoderConfig,
    *,
    time: bool = False,
    stride: tuple[int, int, int] = (1, 1, 1),
) -> EdgeConv3d:
    """Build a convolution that spans three frames where it changes time, whatever the others do."""
    kernel = (3, 3, 3) if time else config.kernel
    replicate = config.padding == "replicate"
    return EdgeConv3d(in_dim, out_dim, kernel, replicate=replicate, stride=stride)


def _block(space: bool, time: bool) -> int:
    """Return the pixels that become one position."""
    return (1 + space) ** 2 * (1 + time)
