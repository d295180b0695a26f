"""What a recipe trains, as far as a plan needs to know: sizes, shapes, arithmetic, memory.

Shapes are those of the latent cache where there is one, otherwise those that the recipe's clips
will have; text widths are those of the recipe where an encoder would have to be opened.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

from jobs.latent_order import Size, size_of
from jobs.plan_activations import held_by_transformer, trained_elements
from jobs.plan_autoencoder import held_by_autoencoder, work_of_autoencoder
from jobs.plan_network import Network, network_of
from jobs.pretrain_config import Trained
from jobs.recipe import Recipe, needed, sized
from video_models.autoencoder.config import AutoencoderConfig
from video_models.distillation.methods import METHODS
from video_models.presets import AUTOENCODERS
from video_platform.errors import CacheError, ConfigError, StorageError
from video_platform.training.config import TrainingConfig
from video_platform.training.memory import Held


@dataclasses.dataclass(frozen=True)
class Shape:
    """Samples of one size."""

    size: Size
    """Of their latents; of an autoencoder's clips in pixels."""
    clips: int
    """How many there are, relative to other shapes."""

    @property
    def positions(self) -> int:
        """What `batch_tokens` counts of one sample."""
        return math.prod(self.size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapeWork:
    """Operations for one sample of a shape."""

    tokens: int
    """Tokens of the latents."""
    sequence: int
    """Tokens that attend to each other: in a joint transformer those of the text besides."""
    forward: int
    backward: int
    recomputed: int
    """What activation checkpointing does again."""
    other: float = 0
    """Forward passes of frozen networks."""

    @property
    def total(self) -> float:
        """What the model needs, nothing done twice."""
        return self.forward + self.backward + self.other


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """One training run of a recipe."""

    title: str
    training: TrainingConfig
    steps: int
    """Optimiser steps, all stages together."""
    parameters: int
    """Elements of all parameters of the network."""
    trained: int
    """Elements of those that are trained."""
    heads: int
    """Attention heads, which sequence parallelism shares out."""
    shapes: tuple[Shape, ...]
    width: int
    """Of a token."""
    layers: int
    """Blocks."""
    work: Callable[[Shape], ShapeWork]
    """Operations for one sample."""
    held: Callable[[Shape, TrainingConfig, int], Held]
    """Memory of a micro-batch of so many samples."""


def subjects(recipe: Recipe) -> list[Subject]:
    """Return the training runs of a recipe, by the sections that it has.

    Raises:
        ConfigError: it trains nothing, or a size is missing.
    """
    found = [*_autoencoder(recipe), *_pretraining(recipe), *_distillation(recipe)]
    if not found:
        raise ConfigError(
            "the recipe trains nothing: it has neither autoencoder.training, nor pretrain, nor a "
            "stage of distill"
        )
    return found


def latent_shapes(recipe: Recipe, autoencoder: AutoencoderConfig) -> tuple[Shape, ...]:
    """Return the shapes of the cached clips, or of those that will be made."""
    from video_platform.latents import open_cache

    if recipe.cache is not None:
        try:
            buckets = open_cache(recipe.cache.url).buckets
        except (CacheError, StorageError):
            buckets = ()
        if buckets:
            return tuple(Shape(size_of(bucket.shape), len(bucket.places)) for bucket in buckets)
    pixels = needed(recipe.pixels, "pixels", "plan")
    sizes = recipe.clips.sizes(pixels) if recipe.clips else [pixels.size]
    try:
        return tuple(Shape(size_of(autoencoder.latent_shape(*size)), 1) for size in sizes)
    except ValueError as error:
        raise ConfigError(f"pixels: {error}") from None


def autoencoder_config(recipe: Recipe) -> AutoencoderConfig:
    """Return the size of the recipe's autoencoder, read from its folder where it is there."""
    from video_models.autoencoder.model import Autoencoder
    from video_models.formats import open_autoencoder

    section = recipe.autoencoder
    if section.preset is None and section.config is None:
        try:
            return open_autoencoder(recipe.autoencoder_folder, Autoencoder).config
        except ValueError as error:
            raise ConfigError(f"plan needs the autoencoder's size: {error}") from None
    size: AutoencoderConfig = sized(section, "config", AUTOENCODERS, "autoencoder")
    return size


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Lesson:
    """A transformer as it is trained, and frozen ones of its size that are asked beside it."""

    network: Network
    train: Trained = "all"
    """Which of its parameters."""
    frozen: int = 0
    """How many others are held beside it."""
    calls: float = 0
    """Forward passes of those for one sample."""

    def held(self, shape: Shape, knobs: TrainingConfig, batch: int) -> Held:
        """Return the memory of a micro-batch."""
        return held_by_transformer(
            self.network,
            shape.size,
            knobs,
            batch=batch,
            train=self.train,
            frozen=self.frozen * self.network.parameters,
        )

    def work(self, shape: Shape) -> ShapeWork:
        """Return the operations for one sample."""
        costs = self.network.costs(shape.size)
        forward, backward = costs.forward.total, costs.backward.total
        return ShapeWork(
            tokens=costs.tokens,
            sequence=self.network.sequence(costs.tokens),
            forward=forward,
            backward=backward if self.train == "all" else min(forward, backward),
            recomputed=costs.recomputed.total,
            other=self.calls * forward,
        )


def _pretraining(recipe: Recipe) -> Iterator[Subject]:
    section = recipe.pretrain
    if section is not None:
        network, shapes = _planned(recipe)
        lesson = _Lesson(network=network, train=section.train)
        yield _subject("pretrain", section.training, lesson, shapes)


def _distillation(recipe: Recipe) -> Iterator[Subject]:
    section = recipe.distill
    if section is None:
        return
    for name in ("guidance", "progressive"):
        training: TrainingConfig | None = getattr(section, name, None)
        if training is not None:
            network, shapes = _planned(recipe)
            method = METHODS[name]
            calls = method.teacher_calls * (1 + method.doubled_by_guidance) + method.other_calls
            lesson = _Lesson(network=network, frozen=len(method.frozen), calls=calls)
            stages = len(section.steps) if name == "progressive" else 1
            yield _subject(f"distill {name}", training, lesson, shapes, stages=stages)


def _planned(recipe: Recipe) -> tuple[Network, tuple[Shape, ...]]:
    """Return a recipe's transformer, and the shapes of the clips that it learns from."""
    autoencoder = autoencoder_config(recipe)
    return network_of(recipe, autoencoder), latent_shapes(recipe, autoencoder)


def _subject(
    title: str,
    training: TrainingConfig,
    lesson: _Lesson,
    shapes: tuple[Shape, ...],
    *,
    stages: int = 1,
) -> Subject:
    """Describe a run that trains a transformer; `stages` runs, one after the other."""
    network = lesson.network
    return Subject(
        title=title,
        training=training,
        steps=stages * training.steps,
        parameters=network.parameters,
        trained=trained_elements(network, lesson.train),
        heads=network.config.num_heads,
        width=network.config.dim,
        layers=network.layers,
        shapes=shapes,
        work=lesson.work,
        held=lesson.held,
    )


def _autoencoder(recipe: Recipe) -> Iterator[Subject]:
    section = recipe.autoencoder
    if section.training is None:
        return
    pixels = needed(recipe.pixels, "pixels", "plan")
    shape = Shape((pixels.frames, pixels.height, pixels.width), 1)

    def held(shape: Shape, knobs: TrainingConfig, batch: int) -> Held:
        return held_by_autoencoder(section, shape.size, knobs, batch=batch)

    def work(shape: Shape) -> ShapeWork:
        forward, backward, recomputed = work_of_autoencoder(section, shape.size)
        return ShapeWork(
            tokens=shape.positions,
            sequence=shape.positions,
            forward=forward,
            backward=backward,
            recomputed=recomputed,
        )

    one = held(shape, section.training, 1)
    yield Subject(
        title="train-autoencoder",
        training=section.training,
        steps=section.training.steps,
        parameters=one.trained + one.frozen,
        trained=one.trained,
        heads=1,
        width=0,
        layers=0,
        shapes=(shape,),
        work=work,
        held=held,
    )
