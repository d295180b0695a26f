"""What an image-to-video model is given of a clip, made from pictures as in its training.

Models with condition channels get the clip encoded with zeros in place of the frames that are not
given, and a mask; models without keep the latents of the first frames clean. Image encoders see
the frames that they saw in training, and give zeros for one that is not given.

Legend: B clips, P pixel frames, C latent channels, (T, H, W) latent frames, rows, columns, I image
tokens, D their width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.model_folder import ModelCard
from pipelines.pixels import to_video
from pipelines.request import Request
from video_models.autoencoder.model import Autoencoder
from video_models.image.clip import ImageEncoder
from video_models.transformer.given import Given
from video_models.transformer.given_frames import given_frames
from video_models.transformer.joint_config import AnyTransformerConfig

Frames = NDArray[np.uint8]
"""RGB pictures of the clip's size, (N, H, W, 3)."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The frames that one clip is given; of either end perhaps none."""

    first: Frames
    """At its beginning."""
    last: Frames
    """At its end."""

    @property
    def counts(self) -> tuple[int, int]:
        """How many there are at either end."""
        return len(self.first), len(self.last)


def nothing_given(config: AnyTransformerConfig, request: Request, clips: int) -> Given:
    """Return what a model is told of clips that are given nothing."""
    _, T, H, W = request.latent_shape
    condition = image = None
    if config.condition_channels:
        condition = torch.zeros(clips, config.condition_channels, T, H, W)
    if (width := getattr(config, "image_dim", None)) is not None:
        # Attention to equal tokens is the same however many there are.
        image = torch.zeros(clips, getattr(config, "image_positions", None) or 1, width)
    return Given(condition=condition, image=image)


@torch.no_grad()
def encode_given(
    clips: Sequence[Shown],
    request: Request,
    card: ModelCard,
    *,
    autoencoder: Autoencoder,
    image_encoders: Sequence[ImageEncoder],
    beside: bool,
) -> Given:
    """Return what a model is told of clips of which some frames are given.

    Args:
        clips: the same number of frames of each.
        request: the size of the clips.
        card: of the model.
        autoencoder: of the model.
        image_encoders: those that the card names, in order.
        beside: whether the model has condition channels.
    """
    first = torch.from_numpy(np.stack([clip.first for clip in clips]))
    last = torch.from_numpy(np.stack([clip.last for clip in clips]))
    image = _image_tokens(first, last, card, image_encoders)
    if not beside:
        return Given(image=image, **_clean(first, request, autoencoder))
    video = torch.zeros(len(clips), 3, request.num_frames, request.height, request.width)
    known = torch.zeros(len(clips), request.num_frames, dtype=torch.bool)
    for frames, place in (
        (first, slice(0, first.shape[1])),
        (last, slice(request.num_frames - last.shape[1], None)),
    ):
        video[:, :, place] = to_video(frames)
        known[:, place] = True
    latents = _encoded(video, autoencoder)
    factor = autoencoder.config.temporal_factor
    return Given(condition=given_frames(known, latents, temporal_factor=factor), image=image)


def _clean(first: Tensor, request: Request, autoencoder: Autoencoder) -> dict[str, Tensor]:
    """Return latents whose first frames are given, and which those are."""
    latents = _encoded(to_video(first), autoencoder)  # (B, C, T given, H, W)
    count = latents.shape[2]
    clean = latents.new_zeros(len(first), *request.latent_shape)
    clean[:, :, :count] = latents
    known = (torch.arange(request.latent_shape[1]) < count).expand(len(first), -1)
    return {"clean": clean, "known": known}


def _encoded(video: Tensor, autoencoder: Autoencoder) -> Tensor:
    """Return normalised latents (B, C, T, H, W), on the CPU."""
    device = autoencoder.latent_mean.device
    return autoencoder.normalise(autoencoder.encode(video.to(device)).mode()).float().cpu()


def _image_tokens(
    first: Tensor, last: Tensor, card: ModelCard, encoders: Sequence[ImageEncoder]
) -> Tensor | None:
    """Return the tokens of all image encoders, (B, I, D)."""
    parts = []
    for told, encoder in zip(card.given.images if card.given else (), encoders, strict=True):
        frames = first[:, :1] if told.frame == "first" else last[:, -1:]
        there = frames.shape[1] > 0
        shown = frames if there else torch.cat((first, last), dim=1)  # whatever there is
        tokens = encoder.encode(shown[:, 0].movedim(-1, 1)).float().cpu()
        parts.append(tokens * there)
    return torch.cat(parts, dim=1) if parts else None
