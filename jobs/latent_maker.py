"""The autoencoder as what makes the latent layer: frames in, means and log-variances out.

Opened inside each encoder. Long clips go through in chunks and large ones in tiles, which changes
no latent; a sampled share of the clips is decoded back, which changes none either.

Legend: B clips, C latent channels, T frames, H W pixels; T' H' W' the same of latents.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from jobs.fidelity import Fidelity, draw
from jobs.side_by_side import GAIN, amplified
from pipelines.pixels import to_frames, to_video
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.tiling import tiled_decode, tiled_encode
from video_models.formats import fingerprint, open_autoencoder
from video_models.metrics.reconstruction import psnr
from video_platform.datasets.record import Record
from video_platform.errors import ConfigError
from video_platform.latents.config import CacheConfig
from video_platform.latents.making import Frames, Made
from video_platform.latents.shard import DTYPES
from video_platform.latents.spec import LayerSpec, latent_spec
from video_platform.video.encode import contact_sheet
from video_platform.video.policy import ClipSize, PixelPolicy

LOSSLESS_DB = 100.0
"""PSNR of a reconstruction without any error."""
STRIP_FRAMES = 6
"""Frames in a strip."""
SHOWN_NAME = 48
"""Letters of a clip's id above its strip, from its end."""


def latent_layer(
    folder: str, policy: PixelPolicy, sizes: Sequence[ClipSize], cache: CacheConfig
) -> LayerSpec:
    """Describe what the autoencoder in a folder makes of clips of one policy.

    Args:
        folder: the autoencoder.
        policy: how pixels are made.
        sizes: the sizes of the clips.
        cache: precisions and tiles.

    Raises:
        ConfigError: the folder holds no autoencoder, or one that takes no clips of such a size.
    """
    try:
        model = open_autoencoder(folder, Autoencoder)
        shapes = [model.config.latent_shape(*size) for size in sizes]
    except ValueError as error:
        raise ConfigError(f"autoencoder {folder}, pixels: {error}") from None
    side = model.config.spatial_factor
    if cache.tile_pixels is not None and cache.tile_pixels % side:
        raise ConfigError(
            f"cache.tile_pixels is {cache.tile_pixels}; a latent of autoencoder {folder} is {side} "
            "pixels wide, give a multiple of it"
        )
    return latent_spec(
        autoencoder_fingerprint=fingerprint(model),
        policy=policy,
        config=cache,
        information={
            "autoencoder": dataclasses.asdict(model.config),
            "latent_shapes": shapes,
            "torch": torch.__version__,
        },
    )


def open_latent_maker(folder: str, cache: CacheConfig, bounds: Mapping[str, int]) -> "LatentMaker":
    """Open the autoencoder in a folder, on a GPU where encoders have one."""
    device = torch.device("cuda" if cache.gpus_per_encoder else "cpu")
    model = open_autoencoder(folder, Autoencoder).requires_grad_(False)
    return LatentMaker(model.to(device, DTYPES[cache.compute]), cache, bounds)


class LatentMaker:
    """Encodes clips and looks at some of them twice.

    Args:
        model: the autoencoder, in the precision in which it computes.
        cache: chunks, tiles, and the precision in which latents are stored.
        bounds: which clips of each bucket are looked at; see `fidelity.draw_bounds`.
    """

    def __init__(self, model: Autoencoder, cache: CacheConfig, bounds: Mapping[str, int]) -> None:
        self._model, self._cache, self._bounds = model, cache, bounds
        self._weights = next(model.parameters())
        self._worst_db: dict[str, float] = {}

    @torch.inference_mode()
    def __call__(self, frames: Frames, records: Sequence[Record]) -> list[Made]:
        """Return `mean` and `logvar` (C, T', H', W') of each clip of frames (B, T, H, W, 3)."""
        pixels = torch.from_numpy(frames).to(self._weights.device)
        means, logvars = self.encode(pixels)
        bucket = str(ClipSize(*frames.shape[1:4]))
        return [
            Made(
                tensors={"mean": means[i].float().cpu(), "logvar": logvars[i].float().cpu()},
                finding=self._measure(record.id, frames[i : i + 1], means[i : i + 1])
                if record.url and draw(record.id) < self._bounds.get(bucket, 0)
                else None,
            )
            for i, record in enumerate(records)
        ]

    def encode(self, pixels: Tensor, known: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return means and log-variances (B, C, T', H', W') of uint8 frames (B, T, H, W, 3).

        Args:
            pixels: the frames.
            known: which of them are shown, (T,) bool, zeros standing for the others; None for all.
        """
        known = torch.ones(pixels.shape[1], dtype=torch.bool) if known is None else known
        tile, chunk = self._cuts(pixels.shape)
        if tile:
            posterior = tiled_encode(self._model, self._video(pixels, known), tile=tile)
        elif chunk:
            chunks = map(self._video, torch.split(pixels, chunk, dim=1), torch.split(known, chunk))
            parts = [*self._model.encode_stream(chunks)]
            return (
                torch.cat([part.mean for part in parts], dim=2),
                torch.cat([part.logvar for part in parts], dim=2),
            )
        else:
            posterior = self._model.encode(self._video(pixels, known))
        return posterior.mean, posterior.logvar

    def _cuts(self, shape: Sequence[int]) -> tuple[int | None, int | None]:
        """Return the side of the tiles and the frames of the chunks that clips are cut into."""
        _, T, H, W, _ = shape
        tile, chunk = self._cache.tile_pixels, self._cache.chunk_frames
        return (
            tile if tile and max(H, W) > tile else None,
            chunk if chunk and chunk < T else None,
        )

    def _video(self, pixels: Tensor, known: Tensor) -> Tensor:
        video = to_video(pixels)
        if not bool(known.all()):
            video[:, :, ~known] = 0
        return video.to(self._weights.dtype)

    def _measure(self, name: str, frames: Frames, mean: Tensor) -> Fidelity | None:
        """Compare one clip (1, T, H, W, 3) with what is left of it; None if its latents are bad."""
        if not bool(mean.isfinite().all()):
            return None
        video = to_video(torch.from_numpy(frames).to(mean.device))
        decoded = self._decode(mean.to(DTYPES[self._cache.stored]).to(mean.dtype), video.shape)
        found_db = min(float(psnr(decoded, video)), LOSSLESS_DB)
        bucket, strip = str(ClipSize(*frames.shape[1:4])), None
        if found_db < self._worst_db.get(bucket, float("inf")):
            self._worst_db[bucket] = found_db
            strip = _strip(name, frames[0], to_frames(decoded)[0], found_db)
        return Fidelity(
            bucket=bucket,
            psnr_db=found_db,
            difference=self._difference(frames),
            strip=strip,
        )

    def _decode(self, latents: Tensor, shape: Sequence[int]) -> Tensor:
        """Return the video of latents, clamped, in tiles where it was encoded in tiles."""
        _, _, T, H, W = shape
        tile, _ = self._cuts((1, T, H, W, 3))
        if tile:
            return tiled_decode(self._model, latents, tile=tile).float().clamp(-1, 1)
        return self._model.decode(latents).float().clamp(-1, 1)

    def _difference(self, frames: Frames) -> float | None:
        """Return what cutting changes in the latents of one clip; None if it is not cut.

        Of a clip in tiles the corner of two by two tiles is looked at, since whole it may not fit.
        """
        tile, chunk = self._cuts(frames.shape)
        if tile is None and chunk is None:
            return None
        side = 2 * tile if tile else None
        pixels = torch.from_numpy(frames[:, :, :side, :side]).to(self._weights.device)
        shown = torch.ones(pixels.shape[1], dtype=torch.bool)
        whole = self._model.encode(self._video(pixels, shown)).mean.float()
        error = (self.encode(pixels)[0].float() - whole).square().mean().sqrt()
        return float(error / whole.std(correction=0))


def _strip(name: str, original: Frames, reconstruction: Frames, psnr_db: float) -> bytes:
    """Draw original, reconstruction and difference of a clip (T, H, W, 3) below each other."""
    step = max(1, original.shape[2] // 256)  # large frames are shown smaller
    rows = [original, reconstruction, amplified(reconstruction, original)]
    labels = [name[-SHOWN_NAME:], f"reconstruction, {psnr_db:.1f} dB", f"difference x {GAIN}"]
    small = [row[:, ::step, ::step] for row in rows]
    return contact_sheet(small, labels=labels, columns=STRIP_FRAMES)
