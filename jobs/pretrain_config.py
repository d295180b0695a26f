"""How the model is trained, as a recipe says it: the section `pretrain`."""

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag

from video_models.diffusion.config import LossWeightConfig, TimestepConfig
from video_platform.training.config import TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters beside frozen matrices (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int
    """Inner width of each adapter."""

    alpha: float | None = None
    """The adapter's output counts alpha / rank times; None is `rank`, which is once."""

    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    """Which linear layers get one, by the ends of their names."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.rank < 1 or (self.alpha is not None and self.alpha <= 0) or not self.targets:
            raise ValueError(
                f"rank is {self.rank!r}, alpha {self.alpha!r}, targets {self.targets!r}; rank must "
                "be at least 1, alpha above 0, and targets name at least one layer"
            )


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "All"
    return "Patterns" if isinstance(value, list | tuple) else "Lora"


Trained = Annotated[
    Annotated[Literal["all"], Tag("All")]
    | Annotated[LoraConfig, Tag("Lora")]
    | Annotated[tuple[str, ...], Tag("Patterns")],
    Discriminator(_kind),
]
"""Which parameters are trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GivenFrames:
    """Frames that a clip may be given, and how often it is."""

    layer: str | None = None
    """The layer of kind `given` whose latents stand beside the noisy ones under a mask, for models
    with `condition_channels`; its frames are given. None keeps `first` frames clean in the noisy
    clip, at time 0, for models without."""

    first: int = 1
    """How many frames are given where there is no layer: 1, or 1 and whole latent frames."""

    chance: float = 1.0
    """Share of the clips that are given these frames."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 < self.chance <= 1:
            raise ValueError(f"chance = {self.chance!r}; it must be in (0, 1]")
        if self.first < 1 or (self.layer is not None and self.first != 1):
            raise ValueError(
                f"first is {self.first!r}; at least 1, and left out with a layer, which has its own"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GivenConfig:
    """What is given of clips: image to video, first and last frame to video, continuation."""

    ways: tuple[GivenFrames, ...]
    """Each clip takes one of them at most, by chance; where the chances leave something over,
    nothing is given, as in text to video. A picture, which has nothing beyond, is given nothing."""

    image: tuple[str, ...] = ()
    """Layers of kind `image` whose tokens the model attends to, one after the other, for models
    with `image_dim`; zeros where a clip is not given that frame."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers that are read."""
        return (*(way.layer for way in self.ways if way.layer is not None), *self.image)

    @property
    def required(self) -> bool:
        """Whether every clip is given something, so that a model knows nothing else."""
        return sum(way.chance for way in self.ways) > 1 - 1e-9

    @property
    def beside(self) -> bool:
        """Whether given frames stand beside the noisy latents, and not in them."""
        return self.ways[0].layer is not None

    def __post_init__(self) -> None:
        """Check that the ways go together."""
        total = sum(way.chance for way in self.ways)
        if not self.ways or total > 1 + 1e-9:
            raise ValueError(
                f"ways have chances of {total:g} in all; give at least one, and at most 1 together"
            )
        if len({way.layer is None for way in self.ways}) > 1:
            raise ValueError("either all ways name a layer or none: a model knows one kind alone")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TraceConfig:
    """Steps of which a profile is written, to be opened in a trace viewer such as Perfetto."""

    first_step: int
    """The first traced step; the run's first is 1."""

    last_step: int
    """The last one."""

    def __post_init__(self) -> None:
        """Check the range."""
        if not 1 <= self.first_step <= self.last_step:
            raise ValueError(
                f"first_step is {self.first_step!r} and last_step {self.last_step!r}; "
                "give 1 <= first_step <= last_step"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObserveConfig:
    """What is told of a run besides its loss."""

    time_buckets: int = 10
    """Equal parts of [0, 1] whose training losses are told apart; 0 for none. A loss over all
    times looks flat, because it is mostly the noise of the times that were drawn."""

    grad_norms: bool = True
    """Whether the gradient norm of each block is measured, at steps that are logged."""

    validation_clips: int = 128
    """Most held-out clips that are measured."""

    peak_tflops: float | Literal["measured"] | None = None
    """What one device can do at most, in TFLOP/s, for the utilisation: the maker's number, or
    `measured` for a product of two large matrices before the first step. None tells none."""

    trace: TraceConfig | None = None
    """A profile of some steps of rank 0, an artifact of the run; None for none."""

    def __post_init__(self) -> None:
        """Check the counts."""
        if not 0 <= self.time_buckets <= 100:
            raise ValueError(f"time_buckets = {self.time_buckets!r}; it must be in [0, 100]")
        if self.validation_clips < 1:
            raise ValueError(f"validation_clips = {self.validation_clips!r}; it is at least 1")
        if isinstance(self.peak_tflops, float) and self.peak_tflops <= 0:
            raise ValueError(f"peak_tflops = {self.peak_tflops!r}; it must be above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainSection:
    """Flow matching on the latent cache."""

    training: TrainingConfig
    """How long, how fast, in which pieces."""

    start_from: str | None = None
    """A model folder whose transformer training starts from: ours, a published pipeline's, or a
    transformer's alone. `model.preset` and `model.transformer` are then left out. None starts
    afresh."""

    train: Trained = "all"
    """`all`; `{rank: 16}` for adapters beside frozen weights, saved for themselves and merged into
    the model; or patterns of parameter names such as `["blocks.*.attn2.*"]`, all others being
    frozen."""

    timesteps: TimestepConfig = TimestepConfig()
    """The density of training times."""

    weight: LossWeightConfig = LossWeightConfig()
    """What the loss counts at each time."""

    caption_dropout: float = 0.1
    """Share of samples trained without their caption, for classifier-free guidance."""

    given: GivenConfig | None = None
    """Frames of the clip that the model is given, as in image to video; None for text alone."""

    guidance: float | None = None
    """The guidance scale that a model with `guidance_embedding` is told; None for models without.
    Clips as they are have 1; what was distilled to take a scale is fine-tuned at one of those."""

    held_out: float = 0.02
    """Share of the cached clips that are kept for the held-out loss, never trained on."""

    sample_prompts: tuple[str, ...] = ()
    """Prompts that are sampled during training, every `training.sample_every` steps."""

    sample_clips: int = 0
    """Held-out clips whose captions are sampled besides, from what is given of them."""

    observe: ObserveConfig = ObserveConfig()
    """What is told of the run."""

    def __post_init__(self) -> None:
        """Check the shares, and that there is something to freeze."""
        for name in ("caption_dropout", "held_out"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r}; it must be in [0, 1)")
        if self.train != "all" and self.start_from is None:
            raise ValueError(
                f"train = {self.train!r} leaves weights as they are and needs start_from, a model "
                "whose weights they are; or set train to all"
            )
        if self.sample_clips < 0:
            raise ValueError(f"sample_clips = {self.sample_clips!r}; it is not below 0")
        if self.given is not None and self.given.required and self.sample_prompts:
            raise ValueError(
                "sample_prompts have no frame to begin with, and every clip is given one; use "
                "sample_clips, or lower the chances of given.ways"
            )
        if self.train == ():
            raise ValueError("train is an empty list, so that nothing is trained; name parameters")
