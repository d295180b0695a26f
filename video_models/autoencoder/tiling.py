"""Encode and decode frames of any size in tiles, exactly or blended.

The convolutions are run in tiles that are grown by what their outputs can see, and the grown part
is cut off again; what looks at a whole frame, the attention in the middle, is given the whole
latent frame, which is small. So the result is the one without tiles. `blended_encode` and
`blended_decode` do what is common instead: run the whole network on each tile and fade overlapping
results into each other. That needs no halo, and it is wrong by what attention and borders see.

Legend: B batch, C channels, T frames, H W pixels; z, T', H', W' the same of latents.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.posterior import Posterior
from video_models.layers.memory import Memory, flow
from video_models.layers.patches import fold_patches, unfold_patches


def encode_halo(config: AutoencoderConfig) -> int:
    """Return how many pixels beyond its own a latent sees to a side, attention aside."""
    reach = 0
    for level in reversed(range(len(config.dim_mult))):
        space, time = config.shrinkage(level)
        if space:
            reach = 2 * reach + 1
        elif time and config.resampler != "wan":
            reach += 1  # its convolution spans space all the same
        reach += 2 * config.num_res_blocks
    return (reach + 1) * config.patch_size


def decode_halo(config: AutoencoderConfig) -> int:
    """Return how many latents beyond its own a pixel sees to a side, attention aside."""
    reach = 1
    for level in range(len(config.dim_mult)):
        reach += 2 * (config.num_res_blocks + 1)
        if level < len(config.space_down):
            shuffles = config.resampler == "shuffle"  # its convolution sees the small frame
            reach += not shuffles
            reach = -(-reach // 2) if config.space_down[level] else reach
            reach += shuffles
    return reach


@torch.no_grad()
def tiled_encode(model: Autoencoder, video: Tensor, *, tile: int) -> Posterior:
    """Return `model.encode(video)`, with tiles of tile x tile pixels at a time.

    Raises:
        ValueError: the tile is no positive multiple of the pixels of a latent, or the video does
            not fit, or tiles cannot be exact.
    """
    config = model.config
    config.check_tiles()
    _, _, rows, columns = config.latent_shape(*video.shape[2:])
    side = config.spatial_factor
    h = None
    for window in _windows((rows, columns), _latents(tile, config), encode_halo(config) / side):
        part = fold_patches(window.grown(video, side), config.patch_size)
        part = part.contiguous(memory_format=torch.channels_last_3d)
        y = torch.cat([*flow(model.encoder.descent, part, Memory())], dim=2)
        h = _like(y, y.shape[2], rows, columns) if h is None else h
        window.own(h).copy_(window.inner(y))
    assert h is not None, "a frame has a tile"  # noqa: S101
    moments = torch.cat([*flow(model.encoder.bottom, h, Memory())], dim=2)
    return model.posterior(moments)


@torch.no_grad()
def tiled_decode(model: Autoencoder, latents: Tensor, *, tile: int) -> Tensor:
    """Return `model.decode(latents)`, with tiles of tile x tile pixels at a time.

    Raises:
        ValueError: the tile is no positive multiple of the pixels of a latent, or tiles cannot be
            exact.
    """
    config = model.config
    config.check_tiles()
    B, _, T, rows, columns = latents.shape
    side, frames = config.spatial_factor, 1 + (T - 1) * config.temporal_factor
    z = model.post_quant_conv(latents).contiguous(memory_format=torch.channels_last_3d)
    h = torch.cat([*flow(model.decoder.bottom, z, Memory())], dim=2)
    video = latents.new_empty(B, config.channels, frames, rows * side, columns * side)
    for window in _windows((rows, columns), _latents(tile, config), decode_halo(config)):
        part = window.grown(h).contiguous(memory_format=torch.channels_last_3d)
        at = 0
        for pixels in flow(model.decoder.ascent, part, Memory()):
            y = window.inner(unfold_patches(pixels, config.patch_size), side)
            window.own(video, side)[:, :, at : at + y.shape[2]] = y
            at += y.shape[2]
    return video


@torch.no_grad()
def blended_encode(model: Autoencoder, video: Tensor, *, tile: int, overlap: int) -> Posterior:
    """Encode tiles apart, each with a margin of `overlap` pixels; an approximation of `encode`."""
    shape = model.config.latent_shape(*video.shape[2:])[2:]
    side = model.config.spatial_factor

    def part(window: "_Window") -> Tensor:
        posterior = model.encode(window.grown(video, side))
        return torch.cat((posterior.mean, posterior.logvar), dim=1)

    margin = overlap / model.config.spatial_factor
    blended = _blend(_windows(shape, _latents(tile, model.config), margin), part, 1)
    return Posterior(*blended.chunk(2, dim=1))


@torch.no_grad()
def blended_decode(model: Autoencoder, latents: Tensor, *, tile: int, overlap: int) -> Tensor:
    """Decode tiles apart, each with a margin of `overlap` pixels; an approximation of `decode`."""
    side = model.config.spatial_factor
    windows = _windows(latents.shape[3:], _latents(tile, model.config), overlap / side)
    return _blend(windows, lambda window: model.decode(window.grown(latents)), side)


@dataclass(frozen=True)
class _Span:
    """A tile along one axis, in latents: its own part, and that grown by a margin."""

    start: int
    stop: int
    first: int
    last: int
    size: int


@dataclass(frozen=True)
class _Window:
    """A tile: spans of rows and columns. `unit` is how many positions of x a latent is wide."""

    rows: _Span
    columns: _Span

    def own(self, x: Tensor, unit: int = 1) -> Tensor:
        """Return the tile's part of a whole frame."""
        r, c = self.rows, self.columns
        return x[..., r.start * unit : r.stop * unit, c.start * unit : c.stop * unit]

    def grown(self, x: Tensor, unit: int = 1) -> Tensor:
        """Return the tile's part of a whole frame and the margin around it."""
        r, c = self.rows, self.columns
        return x[..., r.first * unit : r.last * unit, c.first * unit : c.last * unit]

    def inner(self, y: Tensor, unit: int = 1) -> Tensor:
        """Cut the margin off what was made of the grown part."""
        r, c = self.rows, self.columns
        top, left = (r.start - r.first) * unit, (c.start - c.first) * unit
        height, width = (r.stop - r.start) * unit, (c.stop - c.start) * unit
        return y[..., top : top + height, left : left + width]


def _windows(shape: tuple[int, ...], tile: int, margin: float) -> list[_Window]:
    grow = -int(-margin // 1)  # whole latents
    rows, columns = (
        [
            _Span(at, min(at + tile, size), max(0, at - grow), min(at + tile + grow, size), size)
            for at in range(0, size, tile)
        ]
        for size in shape
    )
    return [_Window(*spans) for spans in itertools.product(rows, columns)]


def _blend(windows: list[_Window], part: Callable[[_Window], Tensor], unit: int) -> Tensor:
    """Average what is made of grown tiles, each fading out linearly over its margins."""
    total, weights = None, None
    for window in windows:
        y = part(window)
        ramps = [_ramp(span, unit).to(y) for span in (window.rows, window.columns)]
        fade = ramps[0][:, None] * ramps[1]
        if total is None or weights is None:
            shape = window.rows.size * unit, window.columns.size * unit
            total, weights = y.new_zeros(*y.shape[:3], *shape), y.new_zeros(shape)
        window.grown(total, unit).add_(y * fade)
        window.grown(weights, unit).add_(fade)
    assert total is not None and weights is not None, "a frame has a tile"  # noqa: S101
    return total / weights


def _ramp(span: _Span, unit: int) -> Tensor:
    """Return the weight of each position of a grown span: 1 inside, falling over a margin."""
    length = (span.last - span.first) * unit
    at = torch.arange(length) + 0.5
    weight = torch.ones(length)
    if before := (span.start - span.first) * unit:
        weight = torch.minimum(weight, at / (2 * before))
    if behind := (span.last - span.stop) * unit:
        weight = torch.minimum(weight, (length - at) / (2 * behind))
    return weight


def _latents(tile: int, config: AutoencoderConfig) -> int:
    side = config.spatial_factor
    if tile < side or tile % side:
        raise ValueError(f"tile is {tile!r} pixels; allowed are positive multiples of {side}")
    return tile // side


def _like(y: Tensor, frames: int, rows: int, columns: int) -> Tensor:
    shape = (*y.shape[:2], frames, rows, columns)
    return torch.empty(shape, dtype=y.dtype, device=y.device, memory_format=torch.channels_last_3d)
