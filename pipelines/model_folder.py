"""A trained model as one folder, with everything that it takes to make a clip.

    folder/
    ├── model.json     the card: text encoder, sampler defaults, clip size, fingerprints, lineage
    ├── vae/           the autoencoder, its normalisation included
    └── transformer/   the denoiser

Weights are safetensors; nothing in the folder is ever unpickled. It is written under another name
and renamed, so it is there whole or not at all. Reading the card needs no torch.
"""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pydantic

from video_models.diffusion.config import SamplingConfig
from video_models.text.config import TextConfig
from video_platform.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from video_models.autoencoder.model import Autoencoder
    from video_models.transformer.family import AnyTransformer

M = TypeVar("M", bound="nn.Module")

CARD = "model.json"
FORMAT_VERSION = 1
PARTS = ("vae", "transformer")


@dataclass(frozen=True, kw_only=True)
class ClipDefaults:
    """The clip that a model makes unless told otherwise: what it was trained on."""

    frames: int
    """Frames in the clip."""
    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""
    fps: float
    """Frames a second."""


@dataclass(frozen=True, kw_only=True)
class FurtherText:
    """A text encoder that a model reads its prompts with besides the first."""

    config: TextConfig
    """What it is."""
    identity: Mapping[str, Any]
    """The identity that it had in training; another is refused."""


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """An image encoder whose tokens a model attends to."""

    path: str
    """A folder of a CLIP model with a vision part."""
    output: Literal["tokens", "pooled"]
    """An embedding for each patch, or one for the whole image."""
    frame: Literal["first", "last"]
    """Which frame of the clip it is shown."""
    identity: Mapping[str, Any]
    """The identity that it had in training; another is refused."""


@dataclass(frozen=True, kw_only=True)
class FramesInput:
    """Frames of the clip that a model may be given."""

    ways: tuple[tuple[int, int], ...]
    """How many at the beginning and how many at the end: (1, 0) is image to video, (1, 1) first
    and last frame to video."""
    required: bool
    """Whether it was never trained without."""
    images: tuple[ImageInput, ...] = ()
    """What else it is told of them."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What `model.json` says."""

    name: str
    """What the model is called."""
    kind: Literal["base", "student"]
    """Trained from data, or distilled from a teacher."""
    text: TextConfig
    """The text encoder that reads the prompts."""
    text_identity: Mapping[str, Any]
    """The identity that the text encoder had in training; another encoder is refused."""
    sampling: SamplingConfig
    """Sampler, steps, guidance and shift unless told otherwise."""
    clip: ClipDefaults
    """Frames, size and rate unless told otherwise."""
    more_texts: tuple[FurtherText, ...] = ()
    """Further text encoders, in the order of the transformer's."""
    given: FramesInput | None = None
    """Frames of the clip that it may be given; None for text to video."""
    guidance_baked: bool = False
    """Whether the guided velocity was learned; such a model is sampled without guidance."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the tensors of `vae` and `transformer`; filled in by `ModelFolder.save`."""
    run_id: str | None = None
    """The tracking run that made the model."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Run ids of what the model was made from, by role."""
    format_version: int = FORMAT_VERSION
    """Version of this file's layout."""

    def __post_init__(self) -> None:
        """Keep the two statements about guidance in line."""
        if self.guidance_baked and self.sampling.guidance != 1:
            raise ValueError(
                f"guidance is baked in, but sampling.guidance is {self.sampling.guidance!r}; "
                "such a model is sampled at 1"
            )

    @property
    def texts(self) -> tuple[TextConfig, ...]:
        """All text encoders, in the order of the transformer's."""
        return (self.text, *(each.config for each in self.more_texts))

    @property
    def text_identities(self) -> list[dict[str, Any]]:
        """The identities that they had in training."""
        return [dict(self.text_identity), *(dict(each.identity) for each in self.more_texts)]


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """An opened model folder: the card is read, the weights not yet."""

    path: Path
    """The folder."""
    card: ModelCard
    """Its `model.json`."""

    @classmethod
    def open(cls, path: str | Path) -> "ModelFolder":
        """Read the card of a model folder.

        Raises:
            ConfigError: there is no such folder, or it is no model folder of this version.
        """
        path = Path(path)
        if not path.is_dir():
            raise ConfigError(
                f"there is no model folder {str(path)!r}; give a folder that holds {CARD}"
            )
        missing = [name for name in (CARD, *PARTS) if not (path / name).exists()]
        if missing:
            raise ConfigError(
                f"{str(path)!r} is not a model folder: it lacks {', '.join(missing)}; "
                f"a model folder holds {', '.join((CARD, *PARTS))}"
            )
        return cls(path=path, card=_read_card(path / CARD))

    @classmethod
    def save(
        cls,
        path: str | Path,
        card: ModelCard,
        *,
        autoencoder: "Autoencoder",
        transformer: "AnyTransformer",
    ) -> "ModelFolder":
        """Write a model folder, whole or not at all, in place of a model folder that is there.

        Args:
            path: the folder to write.
            card: its card; the fingerprints are filled in here.
            autoencoder: goes to `vae/`.
            transformer: goes to `transformer/`.

        Raises:
            ConfigError: `path` holds something that is no model.
        """
        from video_models.formats import save_autoencoder, save_transformer

        path = Path(path).absolute()
        if (
            path.exists()
            and not (path / CARD).is_file()
            and (path.is_file() or any(path.iterdir()))
        ):
            raise ConfigError(
                f"{str(path)!r} exists and is no model folder; nothing was written, "
                "name another folder"
            )
        prints = {"vae": _fingerprint(autoencoder), "transformer": _fingerprint(transformer)}
        card = dataclasses.replace(card, fingerprints=prints)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            new = scratch / "new"
            save_autoencoder(autoencoder, new / "vae")
            save_transformer(transformer, new / "transformer")
            (new / CARD).write_text(_card_json(card), encoding="utf-8")
            if path.exists():
                path.rename(scratch / "old")
            os.replace(new, path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return cls(path=path, card=card)

    def autoencoder(self) -> "Autoencoder":
        """Open the autoencoder, in fp32 on the CPU, and check it against the card."""
        from video_models.autoencoder.model import Autoencoder
        from video_models.formats import open_autoencoder

        return _checked(self, "vae", lambda folder: open_autoencoder(folder, Autoencoder))

    def transformer(self) -> "AnyTransformer":
        """Open the transformer, in fp32 on the CPU, and check it against the card."""
        from video_models.formats import open_transformer

        return _checked(self, "transformer", open_transformer)

    @property
    def identity(self) -> str:
        """The fingerprint of both parts, short enough to print."""
        import hashlib

        prints = "".join(self.card.fingerprints[part] for part in PARTS)
        return hashlib.sha256(prints.encode()).hexdigest()[:16]


def _checked(folder: ModelFolder, part: str, opener: Callable[[Path], M]) -> M:
    from video_models.formats import ModelFormatError

    try:
        module = opener(folder.path / part)
    except ModelFormatError as error:
        raise ConfigError(f"{folder.path / part}: {error}") from None
    found, expected = _fingerprint(module), folder.card.fingerprints[part]
    if found != expected:
        raise ConfigError(
            f"the weights in {folder.path / part} are not those that {CARD} names: "
            f"fingerprint {found[:12]}, not {expected[:12]}; take the whole folder from one place"
        )
    return module


def _fingerprint(module: "nn.Module") -> str:
    """Hash the weights as they are opened, in float32, whatever they were trained in."""
    from video_models.formats import fingerprint

    return fingerprint({name: tensor.float() for name, tensor in module.state_dict().items()})


_CARD = pydantic.TypeAdapter(ModelCard)


def _card_json(card: ModelCard) -> str:
    return json.dumps(_CARD.dump_python(card, mode="json"), indent=2) + "\n"


def _read_card(path: Path) -> ModelCard:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    version = tree.get("format_version") if isinstance(tree, dict) else None
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"{path} has format version {version!r}; this release reads {FORMAT_VERSION}"
        )
    try:
        card = _CARD.validate_json(json.dumps(tree), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the card"
        raise ConfigError(f"{path}: {key}: {first['msg']}") from None
    lacking = [part for part in PARTS if part not in card.fingerprints]
    if lacking:
        raise ConfigError(f"{path} names no fingerprint for {', '.join(lacking)}")
    return card
