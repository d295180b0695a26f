"""The one recipe format: a YAML file whose sections describe the whole road from videos to clips.

Each job reads the sections it needs; a section that a job needs and the recipe lacks is an error
that names it. Importing this file needs nothing heavy, so that a recipe is checked at once.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Discriminator, Tag

from jobs.autoencoder_config import AutoencoderSection
from jobs.distill_config import DistillSection
from jobs.evaluation_config import EvaluationConfig
from jobs.plan_config import PlanConfig
from jobs.precompute_config import FidelityConfig, ForecastConfig, LayerConfig
from jobs.pretrain_config import PretrainSection
from video_models.diffusion.config import SamplingConfig
from video_models.presets import ALL_TRANSFORMERS
from video_models.text.config import NAME, TextConfig
from video_models.transformer.config import TransformerConfig
from video_models.transformer.joint_config import AnyTransformerConfig, JointTransformerConfig
from video_platform.batches.config import CacheShare, LoaderConfig
from video_platform.clips.config import ClipsConfig
from video_platform.cluster_config import ClusterConfig
from video_platform.datasets.config import SourceConfig
from video_platform.errors import ConfigError
from video_platform.latents.config import CacheConfig
from video_platform.shapes.world import WorldConfig
from video_platform.tracking.config import TrackingConfig
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

T = TypeVar("T")

OneOrSeveral = Annotated[
    Annotated[TextConfig, Tag("One")] | Annotated[tuple[TextConfig, ...], Tag("Several")],
    Discriminator(lambda value: "Several" if isinstance(value, list | tuple) else "One"),
]
"""A text encoder, or a list of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSection:
    """The text-to-video model: its transformer, and how it is sampled unless told otherwise."""

    out: str | None = None
    """The model folder that `pretrain` writes and later jobs read; None is `<project>/model`."""

    preset: str | None = None
    """The transformer's size by name in `video_models.presets.ALL_TRANSFORMERS`; its latent
    channels and text width follow the cache. Or give `transformer` or `joint_transformer`."""

    transformer: TransformerConfig | None = None
    """The transformer's size, spelled out: one whose blocks look the text up, as in Wan."""

    joint_transformer: JointTransformerConfig | None = None
    """The same for one in which video and text attend to each other, as in HunyuanVideo."""

    text: str | tuple[str, ...] | None = None
    """Name of the text encoder that it is conditioned on, or a list of several whose embeddings it
    takes in that order; None is the first of `text`."""

    sampling: SamplingConfig = SamplingConfig()
    """Sampler, steps and guidance scale that are stored in the model folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that the jobs read."""

    name: str
    """What the runs are called."""

    project: str = "outputs"
    """Local folder for what the recipe does not place elsewhere: models, checkpoints, reports,
    and the tracking database. `{project}` in `source.url` and `cache.url` stands for it."""

    checkpoints: str | None = None
    """Folder or s3:// URL of what a stopped run goes on from, in reach of all workers; None is
    `<project>/checkpoints`."""

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
    plan: PlanConfig = PlanConfig()
    """What `vdp plan` assumes of the devices that a run may be given."""
    cluster: ClusterConfig = ClusterConfig()
    """Where Ray runs, and with how many workers."""
    tracking: TrackingConfig = TrackingConfig()
    """Where runs are tracked."""

    def __post_init__(self) -> None:
        """Check the names, and put the project folder where URLs name it."""
        if self.image_share is not None and not 0 <= self.image_share <= 1:
            raise ValueError(f"image_share = {self.image_share!r}; it must be in [0, 1]")
        _check_names([each.layer for each in self.text_encoders], self.layers)
        names = self.model_text_names
        if not names or {*names} - {*self.texts} or len({*names}) < len(names):
            raise ValueError(
                f"model.text is {self.model.text!r}; text has {', '.join(self.texts) or 'none'}, "
                "of which it names one or several, none of them twice"
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
    def model_text_names(self) -> tuple[str, ...]:
        """The names of the text encoders that the model is conditioned on, in its order."""
        named = self.model.text
        if named is None:
            return (self.text_encoders[0].layer,)
        return named if isinstance(named, tuple) else (named,)

    @property
    def model_texts(self) -> tuple[TextConfig, ...]:
        """The text encoders that the model is conditioned on, in its order."""
        return tuple(self.texts[name] for name in self.model_text_names)

    @property
    def model_text(self) -> TextConfig:
        """The first of them."""
        return self.model_texts[0]

    @property
    def folder(self) -> Path:
        """The project folder."""
        return Path(self.project)

    def checkpoints_url(self, run: str) -> str:
        """Return where the checkpoints of a run are, or what else lies beside them."""
        return f"{self.checkpoints or self.folder / 'checkpoints'}/{run}"

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


def transformer_size(model: ModelSection) -> AnyTransformerConfig:
    """Return the size of the transformer that a recipe names by preset or spells out.

    Raises:
        ConfigError: there is not exactly one, or the preset is unknown.
    """
    joint = model.joint_transformer
    if joint is None:
        return sized(model, "transformer", ALL_TRANSFORMERS, "model")
    if model.preset is not None or model.transformer is not None:
        raise ConfigError("give one of model.preset, model.transformer and model.joint_transformer")
    return joint


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
