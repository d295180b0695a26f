"""What a transformer costs before it is built: parameters and floating-point operations.

    costs = transformer_costs(config, (5, 60, 104), batch=2, text_tokens=512)
    costs.parameters, costs.tokens, costs.forward.total, costs.training.total

Closed formulas over the matrices of the model, equal to what PyTorch counts on a model without
numbers (`torch.utils.flop_counter`, which counts matrix products and convolutions, a multiplication
and an addition as two; norms, activations and other elementwise work count nothing). This is the
arithmetic that the model needs: what activation checkpointing computes again, or a fused attention
kernel in its backward pass, is not in `training`.

Importing this file needs no torch.

Legend: B batch, S latent tokens, L text tokens, D width.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from video_models.transformer.config import TransformerConfig
from video_models.transformer.spans import Grid, attended_pairs, span_of

Part = Literal["attention", "linear", "embedding"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """Floating-point operations by part."""

    attention: int = 0
    """Products of queries with keys and of their weights with values."""
    linear: int = 0
    """The matrices inside the blocks."""
    embedding: int = 0
    """Patches, time, text and the output layer."""

    @property
    def total(self) -> int:
        """All parts together."""
        return self.attention + self.linear + self.embedding

    def __add__(self, other: "Work") -> "Work":
        """Add part by part."""
        return Work(
            attention=self.attention + other.attention,
            linear=self.linear + other.linear,
            embedding=self.embedding + other.embedding,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Costs:
    """What a transformer is and what one forward and one backward pass take."""

    parameters: int
    """Elements of all parameters."""
    tokens: int
    """Latent tokens of the batch, B S."""
    forward: Work
    """One forward pass."""
    backward: Work
    """One backward pass to all parameters; none to the latents and the text."""
    recomputed: Work
    """What is computed again where all blocks recompute their activations."""

    @property
    def training(self) -> Work:
        """Forward and backward."""
        return self.forward + self.backward


@dataclasses.dataclass(frozen=True, kw_only=True)
class Product:
    """One kind of matrix product in a model."""

    part: Part
    rows: int
    """Vectors that go in."""
    inputs: int
    outputs: int
    times: int = 1
    """How often it stands in the model."""
    first: bool = False
    """Whether nothing before it learns, so that no gradient of its input is computed."""

    @property
    def forward(self) -> int:
        """Operations of the product."""
        return 2 * self.times * self.rows * self.inputs * self.outputs

    @property
    def backward(self) -> int:
        """Operations of the gradients of its two factors."""
        return self.forward if self.first else 2 * self.forward


def transformer_costs(
    config: TransformerConfig,
    size: tuple[int, int, int],
    *,
    batch: int = 1,
    text_tokens: int | Sequence[int],
    image_tokens: int = 0,
    time_per_token: bool = False,
) -> Costs:
    """Count what a transformer takes.

    Samples that are packed into one sequence take what they take one by one.

    Args:
        config: what it is built from.
        size: of the latents (T, H, W), a multiple of the patches.
        batch: samples.
        text_tokens: slots of a caption, those that are filled up among them; of all text encoders,
            or of each.
        image_tokens: tokens of an image encoder, of one sample.
        time_per_token: whether each token has a time of its own.
    """
    encoders = 1 + len(config.more_text_dims)
    texts = [text_tokens] * encoders if isinstance(text_tokens, int) else [*text_tokens]
    given = _Given(
        grid=_grid(config, size),
        batch=batch,
        texts=texts,
        image=image_tokens if config.image_dim is not None else 0,
        time_per_token=time_per_token,
    )
    block = [*_block_products(config, given)]
    whole = [*block, *_end_products(config, given)]
    return Costs(
        parameters=parameter_count(config),
        tokens=given.tokens,
        forward=add_up((each.part, each.forward) for each in whole),
        backward=add_up((each.part, each.backward) for each in whole),
        recomputed=add_up((each.part, each.forward) for each in block),
    )


def parameter_count(config: TransformerConfig) -> int:
    """Return how many elements the parameters of a transformer have."""
    D, F, patch = config.dim, config.ffn_dim, math.prod(config.patch_size)
    normed = {"across_heads": D, "per_head": config.head_dim, "none": 0}[config.qk_norm]
    attention = 4 * _linear(D, D) + 2 * normed
    block = 2 * attention + _linear(D, F) + _linear(F, D)
    if config.cross_attention_norm:
        block += 2 * D
    if config.image_dim is not None:
        block += 2 * _linear(D, D) + normed
    shared = config.modulation == "shared"
    block += 6 * D if shared else _linear(D, 6 * D)
    number = _linear(config.freq_dim, D) + _linear(D, D)
    texts = [
        _linear(width, D) + _linear(D, D) for width in (config.text_dim, *config.more_text_dims)
    ]
    ends = [
        _linear(patch * config.input_channels, D),
        number * (2 if config.guidance_embedding else 1),
        _linear(D, 6 * D) if shared else 0,
        *texts,
        _linear(D, patch * config.latent_channels) + 2 * D,
    ]
    if (width := config.image_dim) is not None:
        learned = (config.image_positions or 0) * width
        ends.append(_linear(width, width) + _linear(width, D) + 2 * width + 2 * D + learned)
    return config.num_layers * block + sum(ends)


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Given:
    """What goes into a transformer at once."""

    grid: Grid
    batch: int
    texts: Sequence[int]
    image: int
    time_per_token: bool

    @property
    def tokens(self) -> int:
        """Of the latents, B S."""
        return self.batch * math.prod(self.grid)

    @property
    def times(self) -> int:
        """Times that are embedded."""
        return self.tokens if self.time_per_token else self.batch


def _grid(config: TransformerConfig, size: tuple[int, int, int]) -> Grid:
    F, R, Q = (length // step for length, step in zip(size, config.patch_size, strict=True))
    return F, R, Q


def _block_products(config: TransformerConfig, given: _Given) -> Iterator[Product]:
    """Yield what all blocks multiply."""
    D, layers = config.dim, config.num_layers
    text = given.batch * sum(given.texts)

    def linear(rows: int, outputs: int, times: int) -> Product:
        return Product(part="linear", rows=rows, inputs=D, outputs=outputs, times=times * layers)

    yield linear(given.tokens, D, 4 + 2)  # queries, keys, values and output; queries and output
    yield linear(text, D, 2)
    yield linear(given.batch * given.image, D, 2)
    yield linear(given.tokens, config.ffn_dim, 2)
    if config.modulation == "block":
        yield linear(given.times, 6 * D, 1)
    pairs = [attended_pairs(given.grid, span_of(config, index)) for index in range(layers)]
    asked = math.prod(given.grid) * (sum(given.texts) + given.image)
    for count in (sum(pairs), layers * asked):  # scores and weighted sums
        yield Product(part="attention", rows=given.batch * count, inputs=D, outputs=1, times=2)


def _end_products(config: TransformerConfig, given: _Given) -> Iterator[Product]:
    """Yield what is multiplied before and behind the blocks."""
    D, patch = config.dim, math.prod(config.patch_size)
    yield _embedding(given.tokens, patch * config.input_channels, D, first=True)
    yield from _two_layers(given.times, config.freq_dim, D)
    if config.guidance_embedding:
        yield from _two_layers(given.batch, config.freq_dim, D)
    if config.modulation == "shared":
        yield _embedding(given.times, D, 6 * D)
    widths = (config.text_dim, *config.more_text_dims)
    for width, tokens in zip(widths, given.texts, strict=True):
        yield from _two_layers(given.batch * tokens, width, D)
    if config.image_dim is not None:  # a learned norm is before the first layer
        yield _embedding(given.batch * given.image, config.image_dim, config.image_dim)
        yield _embedding(given.batch * given.image, config.image_dim, D)
    yield _embedding(given.tokens, D, patch * config.latent_channels)


def _two_layers(rows: int, inputs: int, D: int) -> Iterator[Product]:
    yield _embedding(rows, inputs, D, first=True)
    yield _embedding(rows, D, D)


def _embedding(rows: int, inputs: int, outputs: int, *, first: bool = False) -> Product:
    return Product(part="embedding", rows=rows, inputs=inputs, outputs=outputs, first=first)


def add_up(parts: Iterable[tuple[Part, int]]) -> Work:
    """Return the operations of several products, by part."""
    total = Work()
    for part, flops in parts:
        total += Work(**{part: flops})
    return total
