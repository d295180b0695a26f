"""What a training step of a network keeps in memory, counted on tensors without numbers.

A transformer is counted with two numbers of blocks, from which all others follow, since each
further block takes the same; so the largest takes no longer than the smallest. An autoencoder is
counted as it is, without what judges it (discriminator, LPIPS).

Legend: B clips, C latent channels, T H W latent frames, rows, columns, L text tokens.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from jobs.autoencoder_config import AutoencoderSection
from jobs.fine_tuning import choose_trained
from jobs.latent_order import Size
from jobs.pretrain_config import Trained
from jobs.recipe import sized
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.quantiser_config import TokenAutoencoderConfig
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.autoencoder.warm_start import AnyAutoencoder, freeze_all_but_decoder
from video_models.diffusion.guidance import conditioned
from video_models.objectives.denoising import flow_matching_loss
from video_models.presets import AUTOENCODERS
from video_models.text.batch import TextBatch
from video_models.transformer.config import TransformerConfig
from video_models.transformer.model import VideoTransformer
from video_platform.training.blocks import prepare_blocks
from video_platform.training.config import TrainingConfig
from video_platform.training.memory import Held
from video_platform.training.peak import backward_peak, cast_parameters, without_numbers


def held_by_transformer(
    config: TransformerConfig,
    size: Size,
    training: TrainingConfig,
    *,
    batch: int,
    text_tokens: int,
    train: Trained = "all",
    frozen: int = 0,
) -> Held:
    """Count what a micro-batch of a transformer takes.

    Args:
        config: the transformer.
        size: of its latents.
        training: gives the precision, what is recomputed, and who shares a sample.
        batch: samples of a micro-batch.
        text_tokens: slots of a caption.
        train: which parameters are trained.
        frozen: elements of other networks that are held beside it.
    """

    def counted(latents: Size) -> Held:
        shape = (batch, config.latent_channels, *latents)
        return _extended(config, _deciding(training), shape, text_tokens, train)

    held = counted(size)
    held = dataclasses.replace(held, frozen=held.frozen + frozen)
    parts = training.sequence_parallel
    if parts == 1:
        return held
    few = (config.patch_size[0], *size[1:])
    tokens, fewer = (math.prod(each) // math.prod(config.patch_size) for each in (size, few))
    if tokens == fewer:
        return held
    small = counted(few)
    sent = 9 * batch * (tokens // parts) * config.dim * _dtype(training).itemsize

    def shared(name: str) -> int:
        whole, part = getattr(held, name), getattr(small, name)
        return int(part + (tokens / parts - fewer) * (whole - part) / (tokens - fewer)) + sent

    return dataclasses.replace(
        held, activations=shared("activations"), last_activations=shared("last_activations")
    )


def _deciding(training: TrainingConfig) -> TrainingConfig:
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


def _dtype(training: TrainingConfig) -> torch.dtype:
    """Return the type of the parameters."""
    return torch.bfloat16 if training.precision == "bf16" else torch.float32


@functools.lru_cache(maxsize=256)
def _extended(
    config: TransformerConfig,
    how: TrainingConfig,
    shape: tuple[int, ...],
    text_tokens: int,
    train: Trained,
) -> Held:
    """Count a transformer of few blocks, and a few more, and go on to all of them."""
    counted = functools.partial(
        _count_transformer, how=how, shape=shape, text_tokens=text_tokens, train=train
    )
    period = math.lcm(how.checkpoint_every_block, 2 if config.attention != "full" else 1)
    period = math.lcm(period, config.full_every or 1)
    first = config.num_layers % period + (period if period > 1 else 2)
    if isinstance(train, tuple) or config.num_layers <= first:  # patterns may name single blocks
        return counted(config)
    few, more = (
        counted(dataclasses.replace(config, num_layers=layers))
        for layers in (first, first + period)
    )
    further = (config.num_layers - first) / period

    def extended(name: str) -> int:
        return int(getattr(few, name) + further * (getattr(more, name) - getattr(few, name)))

    blocks = more.trained - few.trained
    one_less = few.activations if period > 1 else 2 * few.activations - more.activations
    last = one_less - _dtype(how).itemsize * blocks // period
    return Held(
        trained=extended("trained"),
        frozen=extended("frozen"),
        activations=extended("activations"),
        last_activations=max(last, 0),
        largest=few.largest,
    )


def _count_transformer(
    config: TransformerConfig,
    *,
    how: TrainingConfig,
    shape: tuple[int, ...],
    text_tokens: int,
    train: Trained,
) -> Held:
    with without_numbers():
        model = VideoTransformer(config)
        choose_trained(model, train)
        cast_parameters(model, _dtype(how))
        prepare_blocks(model, how)
        return _counted(model, lambda: _denoise(model, shape, text_tokens, how))


def _counted(model: nn.Module, loss: Callable[[], Tensor]) -> Held:
    """Count a network on tensors without numbers."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    peak = backward_peak(model, loss)
    return Held(
        trained=sum(size for size, trained in sizes if trained),
        frozen=sum(size for size, trained in sizes if not trained),
        activations=peak,
        last_activations=peak,
        largest=max(size for size, trained in sizes if trained),
    )


def _denoise(
    model: VideoTransformer, shape: tuple[int, ...], text_tokens: int, how: TrainingConfig
) -> Tensor:
    """Draw a micro-batch as training is given it, and return its loss."""
    B, dtype = shape[0], _dtype(how)
    x0, noise = (torch.randn(shape) for _ in range(2))
    text = TextBatch(
        embeddings=torch.randn(B, text_tokens, model.config.text_dim).to(dtype),
        mask=torch.ones(B, text_tokens, dtype=torch.bool),
    )
    network = conditioned(model, text)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=how.precision == "autocast"):
            return network(x.to(dtype), t)

    return flow_matching_loss(velocity, x0, noise=noise, t=torch.rand(B)).mean()


def held_by_autoencoder(
    section: AutoencoderSection, size: Size, training: TrainingConfig, *, batch: int
) -> Held:
    """Count what a micro-batch of an autoencoder takes.

    Args:
        section: what is trained.
        size: frames, height and width of a clip.
        training: gives the precision, and whether blocks are recomputed.
        batch: clips of a micro-batch.
    """
    return _count_autoencoder(section, size, batch, _deciding(training))


@functools.lru_cache(maxsize=64)
def _count_autoencoder(
    section: AutoencoderSection, size: Size, batch: int, how: TrainingConfig
) -> Held:
    with without_numbers():
        model = _autoencoder(section)
        cast_parameters(model, _dtype(how))
        prepare_blocks(model, how)
        return _counted(model, lambda: _reconstruct(model, batch, size, _dtype(how)))


@functools.lru_cache(maxsize=16)
def work_of_autoencoder(section: AutoencoderSection, size: Size) -> tuple[int, int, int]:
    """Count the operations of one clip: forward, backward, and of blocks that are recomputed."""
    (ahead, back), (_, both) = (_flops(section, size, recompute) for recompute in (False, True))
    return ahead, back, both - back


def _flops(section: AutoencoderSection, size: Size, recompute: bool) -> tuple[int, int]:
    """Count operations forward and backward."""
    knobs = TrainingConfig(
        steps=1, batch_size=1, micro_batch_size=1, activation_checkpointing=recompute
    )
    with without_numbers():
        model = _autoencoder(section)
        prepare_blocks(model, knobs)
        with FlopCounterMode(display=False) as forward:
            loss = _reconstruct(model, 1, size, torch.float32)
        with FlopCounterMode(display=False) as backward:
            torch.autograd.backward(loss)
    return forward.get_total_flops(), backward.get_total_flops()


def _autoencoder(section: AutoencoderSection) -> AnyAutoencoder:
    size: AutoencoderConfig = sized(section, "config", AUTOENCODERS, "autoencoder")
    model: AnyAutoencoder
    if section.quantiser is None:
        model = Autoencoder(size)
    else:
        model = TokenAutoencoder(TokenAutoencoderConfig(backbone=size, quantiser=section.quantiser))
    if section.train == "decoder":
        freeze_all_but_decoder(model)
    return model.train()


def _reconstruct(model: AnyAutoencoder, batch: int, size: Size, dtype: torch.dtype) -> Tensor:
    """Draw clips, and return what their reconstruction loses."""
    video = torch.randn(batch, 3, *size, dtype=dtype)
    noise = None
    if isinstance(model, Autoencoder):
        noise = torch.randn(batch, *model.config.latent_shape(*size), dtype=dtype)
    reconstruction, _ = model(video, noise)
    loss: Tensor = (reconstruction - video).float().square().mean()
    return loss
