"""What a recipe trains, as far as a plan needs to know: sizes, shapes, arithmetic, memory.

Shapes are those of the latent cache where there is one, otherwise those that the recipe's clips
will have; text widths are those of the recipe where an encoder would have to be opened.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

from jobs.latent_order import Size, size_of
from jobs.plan_activations import held_by_autoencoder, held_by_transformer, work_of_autoencoder
from jobs.pretrain_config import Trained
from jobs.recipe import Recipe, needed, sized
from video_models.autoencoder.config import AutoencoderConfig
from video_models.distillation.methods import METHODS
from video_models.presets import AUTOENCODERS, JOINT_TRANSFORMERS, TRANSFORMERS
from video_models.text.encoder import DEFAULT_WORD_DIM
from video_models.transformer.config import TransformerConfig
from video_models.transformer.costs import parameter_count, transformer_costs
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
    """Tokens in the network."""
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


def transformer_config(recipe: Recipe, autoencoder: AutoencoderConfig) -> TransformerConfig:
    """Return the transformer that will be trained; a preset's ends follow the recipe."""
    if recipe.model.joint_transformer or recipe.model.preset in JOINT_TRANSFORMERS:
        raise ConfigError("a joint transformer is not planned; plan one of TRANSFORMERS' presets")
    if recipe.model.transformer is not None:
        return recipe.model.transformer
    size: TransformerConfig = sized(recipe.model, "transformer", TRANSFORMERS, "model")
    text = recipe.model_text
    words = DEFAULT_WORD_DIM if text.dim is None else text.dim
    return dataclasses.replace(
        size,
        latent_channels=autoencoder.latent_channels,
        text_dim=words if text.kind == "words" else size.text_dim,
    )


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


def _pretraining(recipe: Recipe) -> Iterator[Subject]:
    if recipe.pretrain is not None:
        yield _of_transformer(
            recipe, "pretrain", recipe.pretrain.training, train=recipe.pretrain.train
        )


def _distillation(recipe: Recipe) -> Iterator[Subject]:
    section = recipe.distill
    if section is None:
        return
    for name in ("guidance", "progressive"):
        training: TrainingConfig | None = getattr(section, name, None)
        if training is not None:
            method = METHODS[name]
            calls = method.teacher_calls * (1 + method.doubled_by_guidance) + method.other_calls
            yield _of_transformer(
                recipe,
                f"distill {name}",
                training,
                frozen=len(method.frozen),
                calls=calls,
                stages=len(section.steps) if name == "progressive" else 1,
            )


def _of_transformer(
    recipe: Recipe,
    title: str,
    training: TrainingConfig,
    *,
    train: Trained = "all",
    frozen: int = 0,
    calls: float = 0,
    stages: int = 1,
) -> Subject:
    """Describe a run that trains a transformer.

    Args:
        recipe: what it belongs to.
        title: what the run is called.
        training: its knobs.
        train: which parameters are trained.
        frozen: networks of its size that are held beside it.
        calls: forward passes of those for one sample.
        stages: how often it is run, one after the other.
    """
    autoencoder = autoencoder_config(recipe)
    config = transformer_config(recipe, autoencoder)
    text_tokens = recipe.model_text.max_tokens
    shapes = latent_shapes(recipe, autoencoder)
    parameters = parameter_count(config)

    def held(shape: Shape, knobs: TrainingConfig, batch: int) -> Held:
        return held_by_transformer(
            config,
            shape.size,
            knobs,
            batch=batch,
            text_tokens=text_tokens,
            train=train,
            frozen=frozen * parameters,
        )

    def work(shape: Shape) -> ShapeWork:
        costs = transformer_costs(config, shape.size, text_tokens=text_tokens)
        forward, backward = costs.forward.total, costs.backward.total
        return ShapeWork(
            tokens=costs.tokens,
            forward=forward,
            backward=backward if train == "all" else min(forward, backward),
            recomputed=costs.recomputed.total,
            other=calls * forward,
        )

    return Subject(
        title=title,
        training=training,
        steps=stages * training.steps,
        parameters=parameters,
        trained=held(shapes[0], training, 1).trained,
        heads=config.num_heads,
        width=config.dim,
        layers=config.num_layers,
        shapes=shapes,
        work=work,
        held=held,
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
            tokens=shape.positions, forward=forward, backward=backward, recomputed=recomputed
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
