"""Encode and decode unseen clips with one autoencoder, and measure what comes back.

Legend: B clips, C channels, T frames, H W pixels.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from jobs.evaluation_bench import REFERENCES, Bench
from jobs.evaluation_ceiling import judged_rates
from jobs.evaluation_config import EvaluationConfig
from jobs.evaluation_records import Measure
from jobs.frechet import Cloud, Features, distance_of
from pipelines.pixels import to_frames
from video_models.autoencoder.posterior import Posterior
from video_models.autoencoder.quantisers import Quantised
from video_models.autoencoder.quantisers.code import codebook_use
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.autoencoder.warm_start import AnyAutoencoder, backbone
from video_models.metrics.frames import BORDER, FIRST, INSIDE, by_place
from video_models.metrics.intervals import bootstrap_mean
from video_models.metrics.latents import LatentChannels, latent_channels
from video_models.metrics.reconstruction import psnr, psnr_by_frame, ssim_by_frame

PLACES = {FIRST: "psnr first frame", BORDER: "psnr borders", INSIDE: "psnr inside"}
"""What the tables call PSNR over the places of a clip."""

Code = Posterior | Quantised


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Networks that measures need; each measure is taken only when its network is given."""

    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None
    """Distance of each clip (B,) between reconstructions and videos, such as LPIPS."""
    features: Features | None = None
    """For the Fréchet distance."""
    features_of: str = "clips"
    """What each row of the features is of, as the measure's name says it."""


@dataclass(frozen=True, kw_only=True)
class Coding:
    """Clips through an autoencoder and back."""

    video: Tensor
    """The clips, (B, 3, T, H, W) in [-1, 1]."""
    reconstruction: Tensor
    """What came back, clamped to [-1, 1]."""
    codes: tuple[Code, ...]
    """Their codes, a batch each."""
    temporal_factor: int
    """Frames that became one latent frame, after the first."""
    encode_s: float
    """Seconds that encoding one clip took, in batches, after a first one that does not count."""
    decode_s: float
    """The same for decoding."""

    @cached_property
    def psnr_by_frame(self) -> Tensor:
        """PSNR in dB, (B, T)."""
        return psnr_by_frame(self.reconstruction, self.video)

    @cached_property
    def ssim_by_frame(self) -> Tensor:
        """Structural similarity, (B, T)."""
        return ssim_by_frame(self.reconstruction, self.video)


@torch.inference_mode()
def coding_of(model: AnyAutoencoder, video: Tensor, *, batch_size: int) -> Coding:
    """Encode and decode clips, the mean of each posterior for a continuous autoencoder.

    Raises:
        ValueError: the clips do not fit the autoencoder.
    """
    model.decode(_latents(model.encode(video[:1])))
    codes, parts = [], []
    encode_s = decode_s = 0.0
    for part in torch.split(video, batch_size):
        began = time.perf_counter()
        code = model.encode(part)
        between = time.perf_counter()
        parts.append(model.decode(_latents(code)).clamp(-1, 1))
        encode_s += between - began
        decode_s += time.perf_counter() - between
        codes.append(code)
    return Coding(
        video=video,
        reconstruction=torch.cat(parts),
        codes=tuple(codes),
        temporal_factor=backbone(model).temporal_factor,
        encode_s=encode_s / len(video),
        decode_s=decode_s / len(video),
    )


def _latents(code: Code) -> Tensor:
    return code.mode() if isinstance(code, Posterior) else code.latents


def describe(model: AnyAutoencoder) -> str:
    """Name compression, kind of code and its size: `4x8x8, vae 16` has 16 latent channels.

    `4x8x8, fsq 1024` has tokens, out of 1024 codes.
    """
    config = backbone(model)
    side = config.spatial_factor
    grid = f"{config.temporal_factor}x{side}x{side}"
    if isinstance(model, TokenAutoencoder):
        return f"{grid}, {model.config.quantiser.kind} {model.codebook_size}"
    return f"{grid}, vae {config.latent_channels}"


def measures_of(
    name: str,
    coding: Coding,
    bench: Bench,
    config: EvaluationConfig,
    *,
    networks: Networks,
) -> Iterator[Measure]:
    """Yield every number that has an interval: quality, bits, and what the judge says."""
    for measure, values in _by_clip(coding, networks):
        yield Measure(
            contender=name,
            split=REFERENCES,
            name=measure,
            clips=len(values),
            interval=bootstrap_mean(values, level=config.level, resamples=config.resamples),
        )
    yield from judged_rates(name, list(to_frames(coding.reconstruction)), bench, config)


def _by_clip(coding: Coding, networks: Networks) -> Iterator[tuple[str, Tensor]]:
    pair = coding.reconstruction, coding.video
    yield "psnr", psnr(*pair)
    for place, values in by_place(coding.psnr_by_frame, coding.temporal_factor).items():
        yield PLACES[place], values
    yield "ssim", coding.ssim_by_frame.mean(1)
    if networks.perceptual is not None:
        with torch.inference_mode():
            yield "lpips", networks.perceptual(*pair)
    T, H, W = coding.video.shape[2:]
    yield "bits per pixel", torch.cat([code.bits() for code in coding.codes]) / (T * H * W)


def facts_of(model: AnyAutoencoder, coding: Coding, networks: Networks) -> dict[str, float]:
    """Return the numbers that have no interval: sizes, use of the code, distances, time a clip."""
    config = backbone(model)
    facts = {
        "parameters": float(sum(parameter.numel() for parameter in model.parameters())),
        "pixels per latent": float(config.temporal_factor * config.spatial_factor**2),
    }
    channels = channels_of(coding.codes)
    if channels is not None:
        facts["dead channels"] = float(len(channels.dead))
    if isinstance(model, TokenAutoencoder):
        indices = [code.indices.flatten() for code in coding.codes if isinstance(code, Quantised)]
        counts = torch.bincount(torch.cat(indices), minlength=model.codebook_size)
        used = codebook_use(counts)
        facts |= {"codes used": used["usage"], "perplexity": used["perplexity"]}
    if networks.features is not None:
        clouds = [Cloud(features=networks.features) for _ in range(2)]
        for cloud, video in zip(clouds, (coding.reconstruction, coding.video), strict=True):
            cloud.add(video)
        name, distance = distance_of(*clouds, of=networks.features_of)
        facts[name] = distance
    return facts | {
        "encode seconds": coding.encode_s,
        "decode seconds": coding.decode_s,
    }


def channels_of(codes: Sequence[Code]) -> LatentChannels | None:
    """Measure the latent channels of posteriors; None for tokens."""
    posteriors = [code for code in codes if isinstance(code, Posterior)]
    return latent_channels(posteriors) if posteriors else None


def curves_of(coding: Coding) -> dict[str, tuple[float, ...]]:
    """Return PSNR and SSIM by frame index, means over the clips."""
    return {
        "psnr": tuple(coding.psnr_by_frame.mean(0).tolist()),
        "ssim": tuple(coding.ssim_by_frame.mean(0).tolist()),
    }
