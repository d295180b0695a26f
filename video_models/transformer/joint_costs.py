"""What a joint transformer costs before it is built, counted as `costs.py` counts.

    costs = joint_costs(config, (5, 60, 104), batch=2, text_tokens=256)

Importing this file needs no torch.

Legend: B batch, S video tokens, L text tokens, N = S + L, D width, F inner width.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

from video_models.transformer.costs import Costs, Part, Product, add_up, transformer_costs
from video_models.transformer.joint_config import AnyTransformerConfig, JointTransformerConfig

FREQ_DIM, WIDENING = 256, 4
"""Of the sinusoids and of the refiner, as in `joint_modulation.py` and `joint_text.py`."""


def joint_costs(
    config: JointTransformerConfig,
    size: tuple[int, int, int],
    *,
    batch: int = 1,
    text_tokens: int,
    time_per_token: bool = False,
) -> Costs:
    """Count what a joint transformer takes.

    Samples that are packed into one sequence take what they take one by one.

    Args:
        config: what it is built from.
        size: of the latents (T, H, W), a multiple of the patches.
        batch: samples.
        text_tokens: slots of a caption, those that are filled up among them.
        time_per_token: whether each token of the video has a time of its own.
    """
    S = math.prod(length // step for length, step in zip(size, config.patch_size, strict=True))
    given = _Given(B=batch, S=S, L=text_tokens, time_per_token=time_per_token)
    blocks = [*_block_products(config, given)]
    whole = [*blocks, *_end_products(config, given)]
    return Costs(
        parameters=joint_parameter_count(config),
        tokens=batch * S,
        forward=add_up((each.part, each.forward) for each in whole),
        backward=add_up((each.part, each.backward) for each in whole),
        recomputed=add_up((each.part, each.forward) for each in blocks),
    )


def any_costs(
    config: AnyTransformerConfig,
    size: tuple[int, int, int],
    *,
    batch: int = 1,
    text_tokens: int | Sequence[int],
    image_tokens: int = 0,
    time_per_token: bool = False,
) -> Costs:
    """Count what a transformer of either family takes; see `transformer_costs`.

    Of a joint one the first text alone is counted as tokens: another is pooled.
    """
    if isinstance(config, JointTransformerConfig):
        tokens = text_tokens if isinstance(text_tokens, int) else text_tokens[0]
        return joint_costs(
            config, size, batch=batch, text_tokens=tokens, time_per_token=time_per_token
        )
    return transformer_costs(
        config,
        size,
        batch=batch,
        text_tokens=text_tokens,
        image_tokens=image_tokens,
        time_per_token=time_per_token,
    )


def joint_parameter_count(config: JointTransformerConfig) -> int:
    """Return how many elements the parameters of a joint transformer have."""
    D, F, patch = config.dim, config.ffn_dim, math.prod(config.patch_size)
    norms = 2 * config.head_dim
    stream = 4 * _linear(D, D) + norms + _linear(D, F) + _linear(F, D) + _linear(D, 6 * D)
    single = 3 * _linear(D, D) + norms + _linear(D, F) + _linear(D + F, D) + _linear(D, 3 * D)
    wide = WIDENING * D
    refiner = (
        4 * _linear(D, D) + _linear(D, wide) + _linear(wide, D) + _linear(D, 2 * D) + 2 * 2 * D
    )
    number = _two_linear(FREQ_DIM, D)
    ends = [
        _linear(patch * config.input_channels, D),
        number * (2 if config.guidance_embedding else 1),
        _linear(config.text_dim, D),
        number + _two_linear(config.text_dim, D) if config.num_refiner_layers else 0,
        0 if config.pooled_dim is None else _two_linear(config.pooled_dim, D),
        _linear(D, 2 * D) + _linear(D, patch * config.latent_channels),
    ]
    blocks = config.num_layers * 2 * stream + config.num_single_layers * single
    return blocks + config.num_refiner_layers * refiner + sum(ends)


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _two_linear(inputs: int, D: int) -> int:
    return _linear(inputs, D) + _linear(D, D)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Given:
    """What goes into a transformer at once."""

    B: int
    S: int
    L: int
    time_per_token: bool

    def vectors(self, tokens: int) -> int:
        """Return how many vectors modulate so many tokens of each sample."""
        return self.B * (tokens if self.time_per_token else 1)


def _block_products(config: JointTransformerConfig, given: _Given) -> Iterator[Product]:
    """Yield what the blocks that see the video multiply."""
    D, F, dual, single = config.dim, config.ffn_dim, config.num_layers, config.num_single_layers
    B, S, L = given.B, given.S, given.L
    rows = B * (S + L)
    yield _product("linear", rows, D, D, 4 * dual + 3 * single)
    yield _product("linear", rows, D, F, 2 * dual + single)  # there and back in dual blocks
    yield _product("linear", rows, D + F, D, single)
    yield _product("linear", given.vectors(S) + given.vectors(L), D, 6 * D, dual)
    yield _product("linear", given.vectors(S + L), D, 3 * D, single)
    yield _product("attention", B * (S + L) ** 2, D, 1, 2 * (dual + single))


def _end_products(config: JointTransformerConfig, given: _Given) -> Iterator[Product]:
    """Yield what is multiplied before and behind those blocks, the refiner's among it."""
    D, patch, layers = config.dim, math.prod(config.patch_size), config.num_refiner_layers
    B, S, L = given.B, given.S, given.L
    yield _product("embedding", B * S, patch * config.input_channels, D, first=True)
    yield _product("embedding", B * L, config.text_dim, D, first=True)
    yield _product("embedding", B * L, D, D, 4 * layers)
    yield _product("embedding", B * L, D, WIDENING * D, 2 * layers)
    yield _product("embedding", B, D, 2 * D, layers)
    yield _product("embedding", given.vectors(S), D, 2 * D)
    yield _product("embedding", B * L**2, D, 1, 2 * layers)
    yield _product("embedding", B * S, D, patch * config.latent_channels)
    numbers = 1 + bool(layers) + config.guidance_embedding
    vectors = [(B, FREQ_DIM)] * numbers
    vectors += [(B * S, FREQ_DIM)] if given.time_per_token else []
    vectors += [(B, config.text_dim)] if layers else []
    vectors += [] if config.pooled_dim is None else [(B, config.pooled_dim)]
    for rows, width in vectors:
        yield _product("embedding", rows, width, D, first=True)
        yield _product("embedding", rows, D, D)


def _product(
    part: Part, rows: int, inputs: int, outputs: int, times: int = 1, *, first: bool = False
) -> Product:
    return Product(part=part, rows=rows, inputs=inputs, outputs=outputs, times=times, first=first)
