"""Small autoencoders of every shape that the code tells apart."""

import torch

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder


def small(**changes):
    values = {
        "base_dim": 8,
        "latent_channels": 4,
        "dim_mult": (1, 2, 2),
        "num_res_blocks": 1,
        "space_down": (True, False),
        "time_down": (True, True),
    }
    return AutoencoderConfig(**{**values, **changes})


VARIANTS = {
    "wan_2.1": small(dim_mult=(1, 2, 2, 2), space_down=(True,) * 3, time_down=(False, True, True)),
    "wan_2.2": small(
        dim_mult=(1, 2, 2, 2),
        space_down=(True,) * 3,
        time_down=(False, True, True),
        decoder_dim=16,
        residual_resampling=True,
        patch_size=2,
    ),
    "time_and_space_apart": small(space_down=(False, True), time_down=(True, False)),
    "folded_pixels": small(space_down=(False, False), patch_size=4),
    "no_mixing_over_time_in_kernels": small(kernel_frames=1),
    "shortcuts": small(residual_resampling=True, patch_size=2),
    "eightfold_in_time": small(
        dim_mult=(1, 1, 1, 1), space_down=(True,) * 3, time_down=(True,) * 3
    ),
    "repeated_edges": small(padding="replicate", norm="group_frame", norm_groups=4),
    "first_frame_before": small(padding="first_frame", mid_attention="clip"),
    "strided": small(
        dim_mult=(1, 2, 2, 2),
        space_down=(True, True, False),
        time_down=(False, True, True),
        time_up=(True, False, True),
        padding="replicate",
        resampler="strided",
    ),
    "strided_among_zeros": small(
        padding="first_frame", resampler="strided", norm="group_frame", norm_groups=2
    ),
    "strided_images_in_kernels": small(padding="first_frame", resampler="strided", kernel_frames=1),
    "shuffled": small(resampler="shuffle"),
    "hunyuan_1.5": small(
        dim_mult=(1, 2, 4, 4),
        space_down=(True,) * 3,
        time_down=(False, True, True),
        padding="replicate",
        resampler="shuffle",
        mid_attention="clip",
        latent_convs=False,
    ),
}

UNCUT = {
    "hunyuan": small(
        dim_mult=(1, 2, 2, 2),
        space_down=(True,) * 3,
        time_down=(False, True, True),
        time_up=(False, True, True),
        padding="replicate",
        norm="group_clip",
        norm_groups=4,
        resampler="strided",
        mid_attention="clip",
    ),
}
"""What needs a clip whole."""

ALL = VARIANTS | UNCUT
IN_TILES = [name for name, config in VARIANTS.items() if config.norm == "channel_rms"]


def make_model(variant):
    """Build a model in which nothing is left at a value that would hide a mistake."""
    torch.manual_seed(0)
    model = Autoencoder(ALL[variant]).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif parameter.ndim > 1:  # fresh kernels over time are one tap and zeros
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def clip_of(model, frames, *, batch=1):
    side = model.config.spatial_factor
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, frames, 2 * side, side, generator=generator) * 2 - 1


def latents_of(model, frames, *, batch=1):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, model.config.latent_channels, frames, 2, 1, generator=generator)
