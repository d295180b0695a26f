"""A prompt and a picture in, a clip out that begins with the picture.

    model = ImageToVideo.open("outputs/model")
    clip = model("a red circle moves right", image="first.png", seed=1)
    clip = model("a red circle moves right", image="first.png", last_image="last.png")

Pictures are files, or RGB arrays (H, W, 3) in uint8; they are cropped and resized to the clip.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
import torch

from pipelines.clip import Clip
from pipelines.given import Frames, Shown, encode_given
from pipelines.request import Batch, Request, RequestError, Wish, check_frames
from pipelines.text_to_video import OnStep, TextToVideo
from video_models.image.clip import ImageEncoder, open_image_encoder
from video_models.transformer.given import Given
from video_platform.errors import ConfigError
from video_platform.video.geometry import Display
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

Image = str | Path | Frames
"""A file, or RGB pixels (H, W, 3); several frames of a beginning as (N, H, W, 3)."""


class ImageToVideo:
    """A model that is ready to go on from given frames.

    Args:
        base: the model.
        image_encoders: those that its card names, in order.

    Raises:
        ConfigError: an image encoder is not the one that the model was trained with.
    """

    def __init__(self, base: TextToVideo, image_encoders: Sequence[ImageEncoder] = ()) -> None:
        self.base = base
        self.image_encoders = list(image_encoders)
        self._check_images()

    @classmethod
    def open(
        cls, folder: str | Path, *, device: str | None = None, dtype: torch.dtype | None = None
    ) -> "ImageToVideo":
        """Open a model folder; see `TextToVideo.open`.

        Raises:
            ConfigError: it is not a model folder, or its parts do not belong together.
        """
        return cls.of(TextToVideo.open(folder, device=device, dtype=dtype))

    @classmethod
    def of(cls, base: TextToVideo) -> "ImageToVideo":
        """Open the image encoders of a model that is open already.

        Raises:
            ConfigError: one of them is not where the card says, or is another.
        """
        given, device = base.card.given, base.autoencoder.latent_mean.device
        try:
            encoders = [
                open_image_encoder(each.path, each.output, device)
                for each in (given.images if given else ())
            ]
        except ValueError as error:
            raise ConfigError(f"the image encoder of {base.card.name!r}: {error}") from None
        return cls(base, encoders)

    def __call__(
        self,
        prompt: str,
        *,
        image: Image | None = None,
        last_image: Image | None = None,
        seed: int = 0,
        negative_prompt: str = "",
        on_step: OnStep | None = None,
        **wish: Unpack[Wish],
    ) -> Clip:
        """Generate a clip for a prompt that shows the given frames.

        Args:
            prompt: what to show.
            image: what the clip begins with; None for models that may do without.
            last_image: what it ends with, for models that were trained so.
            seed: where the noise comes from.
            negative_prompt: what guidance leads away from.
            on_step: told after every step.
            **wish: see `Wish`.

        Raises:
            VdpError: the model cannot do what was asked, or a file is no picture.
        """
        request = self.base.settle(**wish)
        shown = Shown(first=self._frames(image, request), last=self._frames(last_image, request))
        check_frames(self.base.card, *shown.counts, request.num_frames)
        if not any(shown.counts):
            return self.base(
                prompt, seed=seed, negative_prompt=negative_prompt, on_step=on_step, **wish
            )
        batch = Batch(
            prompts=[prompt],
            seeds=[seed],
            negative=negative_prompt,
            given=self._given(shown, request),
            provenance={"given_sha256": _digest(shown), "given_frames": list(shown.counts)},
        )
        return self.base.make(batch, request, on_step)[0]

    def _given(self, shown: Shown, request: Request) -> Given:
        """Return what the model is told of the frames of one clip."""
        return encode_given(
            [shown],
            request,
            self.base.card,
            autoencoder=self.base.autoencoder,
            image_encoders=self.image_encoders,
            beside=bool(self.base.transformer.config.condition_channels),
        )

    def _frames(self, image: Image | None, request: Request) -> Frames:
        """Return pictures in the clip's size, (N, H, W, 3); N is 0 without one."""
        if image is None:
            return np.zeros((0, request.height, request.width, 3), np.uint8)
        policy = PixelPolicy(
            frames=1, height=request.height, width=request.width, fps=self.base.card.clip.fps
        )
        if isinstance(image, str | Path):
            from video_platform.video.decode import decode

            return decode(Path(image), policy=policy, limits=MediaLimits()).frames
        pictures = np.asarray(image)
        if pictures.ndim == 3:
            pictures = pictures[None]
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
            raise RequestError(
                f"an image has shape {np.shape(image)} and type {pictures.dtype}; give a file, or "
                "uint8 pixels (height, width, 3)"
            )
        return np.stack([Display().fit(picture, policy) for picture in pictures])

    def _check_images(self) -> None:
        """Refuse image encoders that are not those that the model was trained with."""
        given = self.base.card.given
        expected = [dict(each.identity) for each in given.images] if given else []
        found = [each.identity for each in self.image_encoders]
        if found != expected:
            raise ConfigError(
                f"{self.base.card.name!r} was trained with other image encoders; found "
                f"{[_short(each) for each in found]}, not {[_short(each) for each in expected]}"
            )


def _short(identity: Mapping[str, object]) -> str:
    return f"{identity.get('name')} {str(identity.get('weights'))[:12]} {identity.get('output')}"


def _digest(shown: Shown) -> str:
    """Return the SHA-256 of the given pixels."""
    pixels = np.concatenate((shown.first, shown.last))
    return hashlib.sha256(pixels.tobytes()).hexdigest()
