"""What a training step of an autoencoder takes, counted on tensors without numbers.

It is counted as it is, without what judges it (discriminator, LPIPS).
"""

import functools

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from jobs.autoencoder_config import AutoencoderSection
from jobs.latent_order import Size
from jobs.plan_activations import counted, deciding, parameter_type
from jobs.recipe import sized
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.quantiser_config import TokenAutoencoderConfig
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.autoencoder.warm_start import AnyAutoencoder, freeze_all_but_decoder
from video_models.presets import AUTOENCODERS
from video_platform.training.blocks import prepare_blocks
from video_platform.training.config import TrainingConfig
from video_platform.training.memory import Held
from video_platform.training.peak import cast_parameters, without_numbers


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
    return _count_autoencoder(section, size, batch, deciding(training))


@functools.lru_cache(maxsize=64)
def _count_autoencoder(
    section: AutoencoderSection, size: Size, batch: int, how: TrainingConfig
) -> Held:
    with without_numbers():
        model = _autoencoder(section)
        cast_parameters(model, parameter_type(how))
        prepare_blocks(model, how)
        return counted(model, lambda: _reconstruct(model, batch, size, parameter_type(how)))


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
