"""Latents of clips of which only some frames are shown: what image to video is given of a clip.

Encoded as published models have it (Wan 2.1 and 2.2): zeros, which are middle grey, stand for all
other frames, the mean of the posterior is kept, and it is normalised where it is used. Behind the
given frames a causal autoencoder still tells of them, so these latents are not those of the whole
clip, and no part of them but the first can be taken from there.

Legend: B clips, T frames, H W pixels; C channels of a latent, T' H' W' its frames, rows, columns.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from jobs.latent_maker import open_latent_maker
from jobs.precompute_config import LayerConfig
from video_models.autoencoder.model import Autoencoder
from video_models.formats import fingerprint, open_autoencoder
from video_platform.datasets.record import Record
from video_platform.latents.config import CacheConfig
from video_platform.latents.fill import Settings
from video_platform.latents.making import Frames, Made, Make
from video_platform.video.policy import ClipSize

TENSOR = "latents"
"""The tensor of a `given` layer, (C, T', H', W')."""


def shown_frames(frames: int, first: int, last: int) -> Tensor:
    """Return which frames of a clip are shown, (T,) bool."""
    index = torch.arange(frames)
    return (index < first) | (index >= frames - last)


def placed(config: LayerConfig, autoencoder: str) -> LayerConfig:
    """Return a layer with the recipe's autoencoder where it is made by that."""
    if config.kind != "given" or config.path is not None:
        return config
    return dataclasses.replace(config, path=autoencoder)


def given_identity(config: LayerConfig, cache: CacheConfig, autoencoder: str) -> dict[str, Any]:
    """Return what a layer is bound to.

    Args:
        config: the layer.
        cache: in which precisions it is made and stored.
        autoencoder: the fingerprint of the autoencoder.
    """
    return {
        "autoencoder": autoencoder,
        "shown": {"first": config.first, "last": config.last},
        "encode": {"compute": cache.compute, "stored": cache.stored},
    }


def identify_given(
    config: LayerConfig, settings: Settings, sizes: Sequence[ClipSize]
) -> dict[str, Any]:
    """Return what a layer is bound to, and check that the autoencoder takes clips of these sizes.

    Raises:
        ValueError: it does not.
    """
    model = open_autoencoder(str(config.path), Autoencoder)
    for size in sizes:
        model.config.latent_shape(*size)
    return given_identity(config, settings.cache, fingerprint(model))


def open_given(config: LayerConfig, settings: Settings) -> Make:
    """Open what makes `latents`, (C, T', H', W'), of clips."""
    maker = open_latent_maker(str(config.path), settings.cache, bounds={})
    device = torch.device("cuda" if settings.cache.gpus_per_encoder else "cpu")

    @torch.inference_mode()
    def make(frames: Frames, records: Sequence[Record]) -> list[Made]:
        known = shown_frames(frames.shape[1], config.first, config.last)
        means, _ = maker.encode(torch.from_numpy(frames).to(device), known)
        return [Made(tensors={TENSOR: mean}) for mean in means.float().cpu()]

    return make
