"""The one recipe format: a YAML file whose sections describe the whole road from videos to clips.

Each job reads the sections it needs; a section that a job needs and the recipe lacks is an error
that names it. Importing this file needs nothing heavy, so that a recipe is checked at once.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Tag

from jobs.evaluation_config import EvaluationConfig
from jobs.precompute_config import FidelityConfig, ForecastConfig, LayerConfig
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.quantiser_config import QuantiserConfig
from video_models.diffusion.config import SamplingConfig, TimestepConfig
from video_models.objectives.config import AdversarialConfig, ReconstructionConfig
from video_models.text.config import NAME, TextConfig
from video_models.transformer.config import TransformerConfig
from video_platform.batches.config import CacheShare, LoaderConfig
from video_platform.clips.config import ClipsConfig
from video_platform.cluster_config import ClusterConfig
from video_platform.datasets.config import SourceConfig
from video_platform.errors import ConfigError
from video_platform.latents.config import CacheConfig
from video_platform.shapes.world import WorldConfig
from video_platform.tracking.config import TrackingConfig
from video_platform.training.config import TrainingConfig
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

T = TypeVar("T")

OneOrSeveral = Annotated[
    Annotated[TextConfig, Tag("One")] | Annotated[tuple[TextConfig, ...], Tag("Several")],
    Discriminator(lambda value: "Several" if isinstance(value, list | tuple) else "One"),
]
"""A text encoder, or a list of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderSection:
    """The 3D causal autoencoder: where it is, and how it is trained."""

    path: str | None = None
    """Its folder, ours or a published one: `train-autoencoder` writes it, every other job reads
    it. None is `<project>/autoencoder`."""

    preset: str | None = None
    """The size to train, by name in `video_models.presets.AUTOENCODERS`; or give `config`."""

    config: AutoencoderConfig | None = None
    """The size to train, spelled out."""

    quantiser: QuantiserConfig | None = None
    """A codebook between encoder and decoder, which makes latents tokens; None for the continuous
    autoencoder."""

    start_from: str | None = None
    """An autoencoder's folder whose weights training starts from: the same size, or one of images,
    whose kernels span one frame and are inflated. None starts afresh."""

    train: Literal["all", "decoder"] = "all"
    """`decoder` leaves all before the latents as `start_from` has it, so that latents and tokens
    stay what they are."""

    training: TrainingConfig | None = None
    """How it is trained; not needed for one that exists."""

    loss: ReconstructionConfig = ReconstructionConfig()
    """What it is trained for."""

    adversarial: AdversarialConfig | None = None
    """A discriminator that it must convince besides; None for none."""

    image_stage: float = 0.0
    """Share of the steps, at the start, that train on single frames: a clip of one frame costs a
    fraction of a whole one, and most of what there is to learn is in it."""

    image_share: float = 0.0
    """Share of the steps after the image stage that train on single frames, drawn step by step."""

    images_per_clip: int = 4
    """Frames that each clip of a batch gives while images are trained."""

    def __post_init__(self) -> None:
        """Check the stages."""
        for name in ("image_stage", "image_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)!r}; it must be in [0, 1]")
        if self.images_per_clip < 1:
            raise ValueError(f"images_per_clip = {self.images_per_clip!r}; it must be at least 1")
        if self.train == "decoder" and self.start_from is None:
            raise ValueError("train = 'decoder' needs start_from, whose encoder stays as it is")
        if self.adversarial is not None and self.training is not None:
            self._check_game(self.adversarial, self.training)

    def _check_game(self, game: AdversarialConfig, training: TrainingConfig) -> None:
        if training.zero_stage == 3:
            raise ValueError(
                "adversarial needs whole kernels for its adaptive weight and its penalty, and "
                "training.zero_stage 3 cuts them up; use zero_stage 0, 1 or 2"
            )
        if game.start_step >= training.steps:
            raise ValueError(
                f"adversarial.start_step = {game.start_step!r} is never reached in "
                f"{training.steps} steps; lower it or raise training.steps"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSection:
    """The text-to-video model: its transformer, and how it is sampled unless told otherwise."""

    out: str | None = None
    """The model folder that `pretrain` writes and later jobs read; None is `<project>/model`."""

    preset: str | None = None
    """The transformer's size by name in `video_models.presets.TRANSFORMERS`; its latent channels
    and text width follow the cache. Or give `transformer`."""

    transformer: TransformerConfig | None = None
    """The transformer's size, spelled out."""

    text: str | None = None
    """Name of the text encoder that it is conditioned on; None is the first of `text`."""

    sampling: SamplingConfig = SamplingConfig()
    """Sampler, steps and guidance scale that are stored in the model folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainSection:
    """Flow matching on the latent cache."""

    training: TrainingConfig
    """How long, how fast, in which pieces."""

    timesteps: TimestepConfig = TimestepConfig()
    """The density of training times."""

    caption_dropout: float = 0.1
    """Share of samples trained without their caption, for classifier-free guidance."""

    held_out: float = 0.02
    """Share of the cached clips that are kept for the held-out loss, never trained on."""

    sample_prompts: tuple[str, ...] = ()
    """Prompts that are sampled during training, every `training.sample_every` steps."""

    def __post_init__(self) -> None:
        """Check the shares."""
        for name in ("caption_dropout", "held_out"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r}; it must be in [0, 1)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillSection:
    """From a guided teacher to a student of a few unguided steps."""

    out: str | None = None
    """The student's model folder; None is `<project>/student`."""

    teacher: str | None = None
    """The teacher's model folder; None is `model.out`."""

    guidance: TrainingConfig | None = None
    """The first stage: one network learns the guided velocity at the teacher's default scale."""

    progressive: TrainingConfig | None = None
    """Each later stage: a student learns two steps of its teacher in one."""

    steps: tuple[int, ...] = (16, 8, 4)
    """Student steps of each progressive stage; each half of the one before, the first half of
    the teacher's."""

    timesteps: TimestepConfig = TimestepConfig(density="uniform")
    """The density of times in the guidance stage."""

    def __post_init__(self) -> None:
        """Check that the stages halve."""
        for longer, shorter in zip(self.steps, self.steps[1:], strict=False):
            if longer != 2 * shorter:
                raise ValueError(f"steps = {self.steps!r}; each must be half of the one before")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that the jobs read."""

    name: str
    """What the runs are called."""

    project: str = "outputs"
    """Local folder for what the recipe does not place elsewhere: models, checkpoints, reports,
    and the tracking database. `{project}` in `source.url` and `cache.url` stands for it."""

    world: WorldConfig | None = None
    """The synthetic world that `vdp shapes` writes to `source.url`, and that `evaluate` asks."""
    source: SourceConfig | None = None
    """The videos."""
    pixels: PixelPolicy | None = None
    """Size, rate and length of the clips that videos become."""
    clips: ClipsConfig | None = None
    """How videos are cut into clips and which are taken; None makes one clip of each."""
    limits: MediaLimits = MediaLimits()
    """Which media files are refused."""
    text: OneOrSeveral = TextConfig()
    """The text encoder, or a list of several, each with a name of its own."""
    layers: Mapping[str, LayerConfig] = dataclasses.field(default_factory=dict)
    """What the cache holds of every clip besides its latents, by name."""
    cache: CacheConfig | None = None
    """The latent cache."""
    mix: tuple[CacheShare, ...] = ()
    """The caches that training reads, each for its share of the steps; all are made as `cache`
    says. Empty reads `cache` alone."""
    image_share: float | None = None
    """Share of the steps of `pretrain` and `distill` that are of pictures, clips of one latent
    frame; with several `draws` of the draws. None takes pictures as often as the caches have
    them."""
    fidelity: FidelityConfig = FidelityConfig()
    """How closely latents are looked at while they are made."""
    forecast: ForecastConfig = ForecastConfig()
    """What a forecast of `precompute` looks at."""
    autoencoder: AutoencoderSection = AutoencoderSection()
    """The autoencoder."""
    model: ModelSection = ModelSection()
    """The text-to-video model."""
    pretrain: PretrainSection | None = None
    """How the model is trained."""
    distill: DistillSection | None = None
    """How its student is made."""
    evaluate: EvaluationConfig | None = None
    """How models are judged."""
    loader: LoaderConfig = LoaderConfig()
    """How training reads ahead."""
    cluster: ClusterConfig = ClusterConfig()
    """Where Ray runs, and with how many workers."""
    tracking: TrackingConfig = TrackingConfig()
    """Where runs are tracked."""

    def __post_init__(self) -> None:
        """Check the names, and put the project folder where URLs name it."""
        if self.image_share is not None and not 0 <= self.image_share <= 1:
            raise ValueError(f"image_share = {self.image_share!r}; it must be in [0, 1]")
        _check_names([each.layer for each in self.text_encoders], self.layers)
        if self.model.text is not None and self.model.text not in self.texts:
            raise ValueError(
                f"model.text is {self.model.text!r}; text has {', '.join(self.texts) or 'none'}"
            )
        for name in ("source", "cache"):
            section = getattr(self, name)
            if section is not None:
                object.__setattr__(self, name, self._placed(section))
        object.__setattr__(self, "mix", tuple(self._placed(share) for share in self.mix))

    def _placed(self, section: Any) -> Any:
        return dataclasses.replace(section, url=section.url.replace("{project}", self.project))

    @property
    def text_encoders(self) -> tuple[TextConfig, ...]:
        """All text encoders, in order."""
        return self.text if isinstance(self.text, tuple) else (self.text,)

    @property
    def texts(self) -> dict[str, TextConfig]:
        """All text encoders by name."""
        return {each.layer: each for each in self.text_encoders}

    @property
    def model_text(self) -> TextConfig:
        """The text encoder that the model is conditioned on."""
        return self.texts[self.model.text] if self.model.text else self.text_encoders[0]

    @property
    def folder(self) -> Path:
        """The project folder."""
        return Path(self.project)

    @property
    def autoencoder_folder(self) -> Path:
        """Where the autoencoder is."""
        return Path(self.autoencoder.path or self.folder / "autoencoder")

    @property
    def model_folder(self) -> Path:
        """Where the trained model is."""
        return Path(self.model.out or self.folder / "model")

    @property
    def student_folder(self) -> Path:
        """Where the distilled model is."""
        out = self.distill.out if self.distill else None
        return Path(out or self.folder / "student")


def _check_names(encoders: list[str], layers: Mapping[str, LayerConfig]) -> None:
    """Refuse names that are taken, missing, or that no folder can have."""
    if not encoders:
        raise ValueError("text is an empty list; give at least one encoder, such as {kind: words}")
    twice = sorted({name for name in encoders if encoders.count(name) > 1})
    if twice:
        raise ValueError(f"text has several encoders called {twice[0]!r}; give each a name")
    for name in layers:
        if not NAME.fullmatch(name):
            raise ValueError(f"layers has {name!r}; a name has letters, digits, dots and hyphens")


def needed(section: T | None, key: str, job: str) -> T:
    """Return a section or value of the recipe that a job cannot do without.

    Raises:
        ConfigError: the recipe lacks it.
    """
    if section is None:
        raise ConfigError(f"{job} needs {key}; add it to the recipe or give {key}=...")
    return section


def sized(section: Any, explicit: str, presets: dict[str, T], key: str) -> T:
    """Return the size that a section names by preset or spells out.

    Raises:
        ConfigError: neither or both are given, or the preset is unknown.
    """
    from video_platform.config import pick

    spelled: T | None = getattr(section, explicit)
    if (spelled is None) == (section.preset is None):
        raise ConfigError(f"give either {key}.preset or {key}.{explicit}, and not both")
    return spelled if spelled is not None else pick(presets, section.preset, f"{key}.preset")
