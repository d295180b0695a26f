"""What a cache holds of every clip besides its latents: tokens, control maps, masks, embeddings.

Each layer is decoded, made and committed on the road that latents take (`latents/making.py`), under
`clip/<name>`, and bound to what made it. Adding one touches nothing that is there.

Legend: B clips, T frames, H W pixels; T' H' W' the same of latents, L tokens, D width.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from jobs.given_maker import identify_given, open_given
from jobs.mask_maker import MaskMaker
from jobs.precompute_config import LayerConfig
from pipelines.pixels import to_video
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.formats import fingerprint, open_autoencoder
from video_models.image.clip import open_image_encoder
from video_platform.cluster_folder import Folder, folder_here
from video_platform.config import pick
from video_platform.datasets.record import Record
from video_platform.errors import ConfigError
from video_platform.latents.config import CacheConfig
from video_platform.latents.fill import Settings
from video_platform.latents.making import Frames, Made, Make, OpenMake
from video_platform.latents.shard import DTYPES
from video_platform.latents.spec import LayerSpec, clip_spec
from video_platform.video.control import METHODS, VERSION, control_map
from video_platform.video.policy import ClipSize


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipLayer:
    """A layer of clips that can be filled."""

    spec: LayerSpec
    """What it is bound to."""
    open_make: OpenMake
    """Opens what makes it."""


def further_layer(
    name: str, config: LayerConfig, settings: Settings, sizes: Sequence[ClipSize]
) -> ClipLayer:
    """Describe a layer, and check that what makes it takes clips of these sizes.

    Raises:
        ConfigError: its folder holds nothing of that kind, or a size does not fit.
    """
    identify, opener = pick(KINDS, config.kind, f"kind of layers.{name}")
    try:
        identity = identify(config, settings, sizes)
    except ValueError as error:
        raise ConfigError(f"layers.{name}: {error}") from None
    return ClipLayer(
        spec=clip_spec(name, identity={"kind": config.kind, **identity}, policy=settings.policy),
        open_make=functools.partial(
            _open_there, opener, config, folder_here(config.path), settings
        ),
    )


def _open_there(opener: "Opener", config: LayerConfig, folder: Folder, settings: Settings) -> Make:
    """Open what makes a layer on whatever machine this is."""
    with folder.opened() as path:
        return opener(dataclasses.replace(config, path=path), settings)


def _identify_codes(
    config: LayerConfig, settings: Settings, sizes: Sequence[ClipSize]
) -> dict[str, Any]:
    model = open_autoencoder(str(config.path), TokenAutoencoder)
    for size in sizes:
        model.config.backbone.latent_shape(*size)
    return {"autoencoder": fingerprint(model), "compute": settings.cache.compute}


def _open_codes(config: LayerConfig, settings: Settings) -> Make:
    """Open what makes `codes`, int32 (T', H', W'), of clips."""
    device, dtype = _device(settings), DTYPES[settings.cache.compute]
    model = open_autoencoder(str(config.path), TokenAutoencoder).requires_grad_(False)
    model = model.to(device, dtype)

    @torch.inference_mode()
    def make(frames: Frames, records: Sequence[Record]) -> list[Made]:
        pixels = torch.from_numpy(frames).to(device)
        length = settings.cache.chunk_frames or pixels.shape[1]
        chunks = (to_video(part).to(dtype) for part in torch.split(pixels, length, dim=1))
        codes = torch.cat([part.indices for part in model.encode_stream(chunks)], dim=1)
        return [Made(tensors={"codes": each}) for each in codes.int().cpu()]

    return make


def _identify_control(
    config: LayerConfig, settings: Settings, sizes: Sequence[ClipSize]
) -> dict[str, Any]:
    for size in sizes:
        if size.height % config.factor or size.width % config.factor:
            raise ValueError(f"factor {config.factor} does not divide clips of {size}")
    return {"method": config.method, "factor": config.factor, "version": VERSION}


def _open_control(config: LayerConfig, settings: Settings) -> Make:
    """Open what makes `map`, uint8 (1, T, H, W) over the factor, of clips."""
    method = METHODS[str(config.method)]

    def make(frames: Frames, records: Sequence[Record]) -> list[Made]:
        maps = (control_map(clip, method, config.factor) for clip in frames)
        return [Made(tensors={"map": torch.from_numpy(each)[None]}) for each in maps]

    return make


def _identify_image(
    config: LayerConfig, settings: Settings, sizes: Sequence[ClipSize]
) -> dict[str, Any]:
    encoder = open_image_encoder(str(config.path), config.output)
    return image_identity(config, settings.cache, encoder.identity)


def image_identity(
    config: LayerConfig, cache: CacheConfig, encoder: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what embeddings of an image encoder are bound to."""
    frame = {} if config.frame == "first" else {"frame": config.frame}
    return {"encoder": dict(encoder), "stored": cache.stored, **frame}


def _open_image(config: LayerConfig, settings: Settings) -> Make:
    """Open what makes `embedding` (L, D) of the first or last frames of clips."""
    device = _device(settings)
    encoder = open_image_encoder(str(config.path), config.output, device)

    def make(frames: Frames, records: Sequence[Record]) -> list[Made]:
        shown = frames[:, 0 if config.frame == "first" else -1]
        images = torch.from_numpy(shown).to(device).movedim(-1, 1)
        return [Made(tensors={"embedding": each}) for each in encoder.encode(images).float().cpu()]

    return make


def _identify_mask(
    config: LayerConfig, settings: Settings, sizes: Sequence[ClipSize]
) -> dict[str, Any]:
    return {"suffix": config.suffix}


def _open_mask(config: LayerConfig, settings: Settings) -> Make:
    """Open what makes `mask`, uint8 (1, T, H, W), of clips."""
    return MaskMaker(str(config.suffix), settings.policy, settings.limits)


def _device(settings: Settings) -> torch.device:
    return torch.device("cuda" if settings.cache.gpus_per_encoder else "cpu")


Identify = Callable[[LayerConfig, Settings, Sequence[ClipSize]], dict[str, Any]]
Opener = Callable[[LayerConfig, Settings], Make]

KINDS: dict[str, tuple[Identify, Opener]] = {
    "codes": (_identify_codes, _open_codes),
    "control": (_identify_control, _open_control),
    "given": (identify_given, open_given),
    "image": (_identify_image, _open_image),
    "mask": (_identify_mask, _open_mask),
}
"""What a layer is bound to, and what makes it, by kind."""
