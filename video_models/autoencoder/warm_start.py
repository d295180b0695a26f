"""Start an autoencoder from another, of the same size or of images, and train its decoder alone.

Inflation gives the last tap of a kernel over time, the frame itself, the kernel of the image model,
and zeros to the taps before it (Wan Team 2025, arXiv 2503.20314, section 4.1). So the video model
starts out as the image model, frame by frame; on single frames the two are equal.
"""

from torch import Tensor

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.tokens import TokenAutoencoder

AnyAutoencoder = Autoencoder | TokenAutoencoder

DECODING = ("post_quant_conv", "decoder")
"""What turns latents into videos; everything else stands before the latents."""

NEW_IN_TIME = ".time_conv."
"""Marks the kernels of resamplers in time, which an image model may lack; fresh ones copy."""


def start_from(model: AnyAutoencoder, source: AnyAutoencoder) -> None:
    """Copy the weights of a source into a model, inflating kernels that span one frame there.

    The normalisation of the source's latents comes along.

    Raises:
        ValueError: the source differs in more than the frames that its kernels span and the levels
            that halve time.
    """
    _check_residual(backbone(model), backbone(source))
    given, wanted = source.state_dict(), model.state_dict()
    unknown = sorted(given.keys() - wanted.keys())
    missing = sorted(n for n in wanted.keys() - given.keys() if NEW_IN_TIME not in n)
    if unknown or missing:
        raise ValueError(
            f"start_from has {unknown[:2]} besides and lacks {missing[:2]}; "
            "it must be of the same kind, levels and blocks"
        )
    state = {
        name: inflate(given[name], tensor, name=name) if name in given else tensor
        for name, tensor in wanted.items()
    }
    model.load_state_dict(state)
    if isinstance(model, Autoencoder) and isinstance(source, Autoencoder):
        model.set_normalisation(source.latent_mean.tolist(), source.latent_std.tolist())


def inflate(kernel: Tensor, target: Tensor, *, name: str) -> Tensor:
    """Return a tensor of the target's shape: the kernel itself, or zeros in time and then it.

    Raises:
        ValueError: the shapes differ in more than the frames that a kernel spans.
    """
    if kernel.shape == target.shape:
        return kernel
    in_time = kernel.ndim == target.ndim == 5 and kernel.shape[2] == 1
    if not in_time or kernel[:, :, 0].shape != target[:, :, 0].shape:
        raise ValueError(
            f"start_from has {name} of shape {tuple(kernel.shape)}, this size needs "
            f"{tuple(target.shape)}; only kernels that span one frame are inflated"
        )
    inflated = target.new_zeros(target.shape)
    inflated[:, :, -1:] = kernel
    return inflated


def freeze_all_but_decoder(model: AnyAutoencoder) -> None:
    """Leave only what turns latents into videos to train; latents and tokens stay what they are."""
    for name, part in model.named_children():
        if name not in DECODING:
            part.requires_grad_(False).eval()


def backbone(model: AnyAutoencoder) -> AutoencoderConfig:
    """Return the sizes of encoder and decoder."""
    return model.config.backbone if isinstance(model, TokenAutoencoder) else model.config


def _check_residual(config: AutoencoderConfig, source: AutoencoderConfig) -> None:
    """Refuse what would deal channels out to other frames."""
    if config.residual_resampling and config.time_down != source.time_down:
        raise ValueError(
            f"start_from has time_down {source.time_down!r}, this size {config.time_down!r}; "
            "with residual_resampling they must be the same"
        )
