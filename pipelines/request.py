"""What is asked of a model, checked against what the model can do before anything is computed."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from pipelines.model_folder import ModelCard
from video_models.autoencoder.config import AutoencoderConfig
from video_models.diffusion.config import SamplingConfig
from video_models.transformer.joint_config import AnyTransformerConfig
from video_platform.errors import ConfigError

if TYPE_CHECKING:
    from video_models.transformer.given import Given


class RequestError(ConfigError, ValueError):
    """A model cannot do what was asked; the message says what it can."""


class Wish(TypedDict, total=False):
    """What a caller asks for; what is left out or None is as the model folder says."""

    num_frames: int | None
    """Frames in the clip."""
    height: int | None
    """Height in pixels."""
    width: int | None
    """Width in pixels."""
    steps: int | None
    """Steps from noise to clip."""
    guidance: float | None
    """Scale of classifier-free guidance; 1 is off."""
    sampler: str | None
    """A name in `video_models.diffusion.samplers.SAMPLERS`."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A wish that the model can fulfil, with nothing left open."""

    num_frames: int
    """Frames in the clip."""
    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""
    sampling: SamplingConfig
    """Sampler, steps, guidance."""
    shift: float
    """Time shift of the sampling grid, that of this size where the model has an automatic one."""
    latent_shape: tuple[int, int, int, int]
    """Channels, frames, rows and columns of the latents."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What clips of one request show, and where each begins."""

    prompts: Sequence[str]
    """What to show, one a clip."""
    seeds: Sequence[int]
    """Where the noise of each comes from."""
    negative: str = ""
    """What guidance leads away from."""
    given: "Given | None" = None
    """Frames that are given; None gives nothing."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What else the clips say of their making."""


def check_frames(card: ModelCard, first: int, last: int, num_frames: int | None = None) -> None:
    """Refuse given frames that a model was not trained with, or the lack of them.

    Args:
        card: of the model.
        first: how many are given at the beginning.
        last: how many at the end.
        num_frames: of the clip, if that is known.

    Raises:
        RequestError: with what the model may be given.
    """
    known = card.given
    if known is None:
        if first + last:
            raise RequestError(
                f"{card.name!r} is a text-to-video model and takes no picture; leave image and "
                "last_image out, or take a model that was trained with pretrain.given"
            )
        return
    if (first, last) not in known.ways and (first + last or known.required):
        ways = [f"{a} first and {b} last" for a, b in known.ways]
        if not known.required:
            ways.append("none")
        raise RequestError(
            f"{card.name!r} is an image-to-video model that is given {' or '.join(ways)} frames, "
            f"not {first} first and {last} last; image gives a first frame and last_image a last "
            "one"
        )
    if num_frames is not None and first + last >= num_frames:
        raise RequestError(
            f"{first + last} frames are given of a clip of num_frames={num_frames}; ask for more"
        )


def settle(
    wish: Wish, card: ModelCard, autoencoder: AutoencoderConfig, transformer: AnyTransformerConfig
) -> Request:
    """Fill in the model's defaults and check the result.

    Raises:
        RequestError: a size, a number of steps, a scale or a sampler is not possible.
    """
    unknown = sorted(wish.keys() - Wish.__annotations__.keys())
    if unknown:
        raise RequestError(
            f"unknown option {unknown[0]!r}; known: {', '.join(sorted(Wish.__annotations__))}"
        )
    frames, height, width = (
        getattr(card.clip, name) if given is None else given
        for name, given in (
            ("frames", wish.get("num_frames")),
            ("height", wish.get("height")),
            ("width", wish.get("width")),
        )
    )
    sampling = _sampling(wish, card, transformer)
    shape = _latent_shape(frames, height, width, autoencoder, transformer)
    return Request(
        num_frames=frames,
        height=height,
        width=width,
        sampling=sampling,
        shift=_shift(sampling, shape, transformer),
        latent_shape=shape,
    )


def _sampling(wish: Wish, card: ModelCard, transformer: AnyTransformerConfig) -> SamplingConfig:
    from video_models.diffusion.samplers import SAMPLERS

    given: dict[str, Any] = {key: wish.get(key) for key in ("steps", "guidance", "sampler")}
    try:
        sampling = dataclasses.replace(
            card.sampling, **{key: value for key, value in given.items() if value is not None}
        )
    except ValueError as error:
        raise RequestError(str(error)) from None
    if card.guidance_baked and not transformer.guidance_embedding and sampling.guidance != 1:
        raise RequestError(
            f"guidance={sampling.guidance:g} was asked of {card.name!r}, a student that has "
            "guidance baked in; a second helping would distort it, so leave guidance out"
        )
    if sampling.sampler not in SAMPLERS:
        raise RequestError(
            f"unknown sampler {sampling.sampler!r}; known: {', '.join(sorted(SAMPLERS))}"
        )
    return sampling


def _shift(
    sampling: SamplingConfig, shape: tuple[int, int, int, int], transformer: AnyTransformerConfig
) -> float:
    from video_models.diffusion.timesteps import shift_of

    F, R, Q = (n // step for n, step in zip(shape[1:], transformer.patch_size, strict=True))
    return shift_of(sampling.shift, (F, R, Q))


def _latent_shape(
    frames: int,
    height: int,
    width: int,
    autoencoder: AutoencoderConfig,
    transformer: AnyTransformerConfig,
) -> tuple[int, int, int, int]:
    patch_frames, patch_rows, patch_columns = transformer.patch_size
    side = autoencoder.spatial_factor
    for name, size, multiple in (
        ("height", height, side * patch_rows),
        ("width", width, side * patch_columns),
    ):
        if size < multiple or size % multiple:
            below = max(size // multiple, 1) * multiple
            raise RequestError(
                f"{name}={size} does not fit this model; allowed are multiples of {multiple} "
                f"pixels, such as {below} and {below + multiple}"
            )
    step = autoencoder.temporal_factor
    allowed = [1 + step * (n * patch_frames - 1) for n in range(1, 4)]
    latent_frames, rest = divmod(frames - 1, step)
    if frames < 1 or rest or (latent_frames + 1) % patch_frames:
        raise RequestError(
            f"num_frames={frames} does not fit this model; allowed are "
            f"{', '.join(map(str, allowed))}, ... ({allowed[0]} + {step * patch_frames} n)"
        )
    return autoencoder.latent_shape(frames, height, width)
