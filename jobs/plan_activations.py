"""What a training step of a transformer keeps in memory, counted on tensors without numbers.

It is counted with a few numbers of blocks, from which all others follow, since each further block
takes the same; so the largest takes no longer than the smallest.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from jobs.fine_tuning import choose_trained
from jobs.latent_order import Size
from jobs.plan_network import Network
from jobs.pretrain_config import Trained
from video_models.diffusion.guidance import conditioned
from video_models.objectives.denoising import flow_matching_loss
from video_models.text.batch import TextBatch
from video_models.transformer.family import AnyTransformer, build_transformer
from video_models.transformer.given import Given, told
from video_models.transformer.joint_config import JointTransformerConfig
from video_platform.training.blocks import prepare_blocks
from video_platform.training.config import TrainingConfig
from video_platform.training.memory import Held
from video_platform.training.optimizers import block_matrices
from video_platform.training.peak import backward_peak, cast_parameters, without_numbers

FEWEST_BLOCKS = {"num_layers": 2, "num_single_layers": 3}
"""Blocks of a kind from which on each further one adds the same. The worst moment is then in the
last block, whatever single blocks and those before them take for themselves."""


def held_by_transformer(
    network: Network,
    size: Size,
    training: TrainingConfig,
    *,
    batch: int,
    train: Trained = "all",
    frozen: int = 0,
) -> Held:
    """Count what a micro-batch of a transformer takes.

    Args:
        network: the transformer.
        size: of its latents.
        training: gives the precision, what is recomputed, and who shares a sample.
        batch: samples of a micro-batch.
        train: which parameters are trained.
        frozen: elements of other networks that are held beside it.
    """

    def counted_with(latents: Size) -> Held:
        return _extended(network, deciding(training), latents, batch, train)

    held = counted_with(size)
    held = dataclasses.replace(held, frozen=held.frozen + frozen)
    few = (network.config.patch_size[0], *size[1:])
    if training.sequence_parallel == 1 or few == size:
        return held
    return _shared(network, training, {size: held, few: counted_with(few)}, batch)


def _shared(
    network: Network, training: TrainingConfig, held: Mapping[Size, Held], batch: int
) -> Held:
    """Return what a rank takes of a sample that several share.

    Args:
        network: the transformer.
        training: says how many share it.
        held: what a whole sample takes, and one of few frames.
        batch: samples of a micro-batch.
    """
    config, parts = network.config, training.sequence_parallel
    (whole, part), (tokens, fewer) = (
        [*held.values()],
        [network.sequence(math.prod(size) // math.prod(config.patch_size)) for size in held],
    )
    sent = 9 * batch * (tokens // parts) * config.dim * parameter_type(training).itemsize

    def of_rank(name: str) -> int:
        most, least = getattr(whole, name), getattr(part, name)
        of_tokens = (tokens / parts - fewer) * (most - least) / (tokens - fewer)
        return max(int(least + of_tokens), 0) + sent

    return dataclasses.replace(
        whole,
        activations=of_rank("activations"),
        last_activations=of_rank("last_activations"),
    )


def trained_elements(network: Network, train: Trained) -> int:
    """Return how many elements the trained parameters of a transformer have."""
    if train == "all":
        return network.parameters
    with without_numbers():
        model = build_transformer(network.config)
        choose_trained(model, train)
        return sum(p.numel() for p in model.parameters() if p.requires_grad)


def deciding(training: TrainingConfig) -> TrainingConfig:
    """Return what of a training's knobs decides over activations; all others are alike."""
    return TrainingConfig(
        steps=1,
        batch_size=1,
        micro_batch_size=1,
        precision=training.precision,
        activation_checkpointing=training.activation_checkpointing,
        checkpoint_every_block=training.checkpoint_every_block,
        checkpoint_keeps=training.checkpoint_keeps,
    )


def parameter_type(training: TrainingConfig) -> torch.dtype:
    """Return the type of the parameters."""
    return torch.bfloat16 if training.precision == "bf16" else torch.float32


@functools.lru_cache(maxsize=256)
def _extended(
    network: Network, how: TrainingConfig, size: Size, batch: int, train: Trained
) -> Held:
    """Count a transformer of few blocks, and a few more, and go on to all of them."""

    def count(layers: Mapping[str, Any]) -> Held:
        config = dataclasses.replace(network.config, **layers)
        fewer = dataclasses.replace(network, config=config)
        return _count_transformer(fewer, how, (batch, *size), train)

    wanted = {field: getattr(network.config, field) for field in network.block_fields}
    if isinstance(train, tuple):  # patterns may name single blocks
        return count(wanted)
    period = _period(network, how)
    layers = {
        field: min(number, number % period + period * math.ceil(FEWEST_BLOCKS[field] / period))
        for field, number in wanted.items()
    }
    few = count(layers)
    further = {}
    for field, number in layers.items():
        step = period if wanted[field] > number else -period
        if number + step > 0:
            other = count({**layers, field: number + step})
            further[field] = _Further(few, other, step)
    first = next(field for field, number in wanted.items() if number)
    alone = {field: number * (field == first) for field, number in layers.items()}
    if period == 1:
        alone[first] = 1
    held = _with_blocks(few, layers, wanted, further)
    last = _with_blocks(few, layers, alone, further).activations
    if first in further:  # the room of its own gradients is counted elsewhere
        last -= int(parameter_type(how).itemsize * further[first].of("trained", 1))
    return dataclasses.replace(held, last_activations=max(last, 0))


def _period(network: Network, how: TrainingConfig) -> int:
    """Return after how many blocks one is like the one before."""
    config, period = network.config, how.checkpoint_every_block
    if isinstance(config, JointTransformerConfig):
        return period
    return math.lcm(period, 2 if config.attention != "full" else 1, config.full_every or 1)


@dataclasses.dataclass(frozen=True)
class _Further:
    """What further blocks of one kind add."""

    few: Held
    other: Held
    """With so many blocks more, or fewer."""
    step: int

    def of(self, name: str, blocks: int) -> float:
        """Return what so many blocks add to a figure."""
        return self._grown(getattr(self.few, name), getattr(self.other, name), blocks)

    def matrices(self, shape: tuple[int, int], blocks: int) -> float:
        """Return how many matrices of a shape so many blocks add."""
        few, other = (held.matrices.get(shape, 0) for held in (self.few, self.other))
        return self._grown(few, other, blocks)

    def _grown(self, few: int, other: int, blocks: int) -> float:
        return blocks * (other - few) / self.step


def _with_blocks(
    few: Held,
    layers: Mapping[str, int],
    wanted: Mapping[str, int],
    further: Mapping[str, _Further],
) -> Held:
    """Go on from few blocks to others, or back.

    Args:
        few: what some blocks take.
        layers: how many they are, by kind.
        wanted: how many there should be.
        further: what more of each kind add.
    """
    more = {kind: wanted[kind] - layers[kind] for kind in further}
    figures = {
        name: int(getattr(few, name) + sum(further[kind].of(name, more[kind]) for kind in more))
        for name in ("trained", "frozen", "activations")
    }
    matrices = {
        shape: int(count + sum(further[kind].matrices(shape, more[kind]) for kind in more))
        for shape, count in few.matrices.items()
    }
    return dataclasses.replace(few, matrices=matrices, **figures)


def _count_transformer(
    network: Network, how: TrainingConfig, shape: tuple[int, ...], train: Trained
) -> Held:
    with without_numbers():
        model = build_transformer(network.config)
        choose_trained(model, train)
        cast_parameters(model, parameter_type(how))
        prepare_blocks(model, how)
        return counted(model, lambda: _denoise(model, network, shape, how))


def counted(model: nn.Module, loss: Callable[[], Tensor]) -> Held:
    """Count a network on tensors without numbers."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    peak = backward_peak(model, loss)
    return Held(
        trained=sum(size for size, trained in sizes if trained),
        frozen=sum(size for size, trained in sizes if not trained),
        activations=peak,
        last_activations=peak,
        largest=max(size for size, trained in sizes if trained),
        matrices=_matrices(model),
    )


def _matrices(model: nn.Module) -> dict[tuple[int, int], int]:
    """Count the matrices that Muon would turn, by shape; none where no blocks are named."""
    if not hasattr(model, "block_names"):
        return {}
    shapes = (matrix.flatten(1).shape for matrix in block_matrices(model))
    return dict(Counter((rows, columns) for rows, columns in shapes))


def _denoise(
    model: AnyTransformer, network: Network, shape: tuple[int, ...], how: TrainingConfig
) -> Tensor:
    """Draw a micro-batch as training is given it, and return its loss."""
    (B, *size), dtype, config = shape, parameter_type(how), network.config
    x0, noise = (torch.randn(B, config.latent_channels, *size) for _ in range(2))
    under = conditioned(
        told(model, _given(network, shape, dtype), patch=config.patch_size),
        _text(network, B, dtype),
        guidance=torch.ones(B) if config.guidance_embedding else None,
    )

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=how.precision == "autocast"):
            return under(x.to(dtype), t)

    return flow_matching_loss(velocity, x0, noise=noise, t=torch.rand(B)).mean()


def _given(network: Network, shape: tuple[int, ...], dtype: torch.dtype) -> Given:
    """Draw what is given of clips."""
    (B, T, *_), config = shape, network.config
    parts: dict[str, Tensor] = {}
    if config.condition_channels:
        parts["condition"] = torch.randn(B, config.condition_channels, *shape[1:]).to(dtype)
    if network.image_tokens:
        width: Any = getattr(config, "image_dim", None)
        parts["image"] = torch.randn(B, network.image_tokens, width).to(dtype)
    if network.time_per_token:
        parts["clean"] = torch.randn(B, config.latent_channels, *shape[1:]).to(dtype)
        parts["known"] = torch.zeros(B, T, dtype=torch.bool)
    return Given(**parts)


def _text(network: Network, batch: int, dtype: torch.dtype) -> TextBatch:
    """Draw captions as each text encoder reads them."""
    config = network.config
    sizes = [*zip(network.text_tokens, _widths(network), strict=True)]
    if isinstance(config, JointTransformerConfig) and config.pooled_dim is not None:
        sizes.append((1, config.pooled_dim))
    first, *more = (
        TextBatch(
            embeddings=torch.randn(batch, tokens, width).to(dtype),
            mask=torch.ones(batch, tokens, dtype=torch.bool),
        )
        for tokens, width in sizes
    )
    return dataclasses.replace(first, more=tuple(more))


def _widths(network: Network) -> tuple[int, ...]:
    config = network.config
    further = () if isinstance(config, JointTransformerConfig) else config.more_text_dims
    return (config.text_dim, *further)
