"""Presets are the sizes that they say they are; nothing here allocates a weight."""

import dataclasses

import pytest
import torch

from video_models.autoencoder.model import Autoencoder
from video_models.presets import AUTOENCODERS, TRANSFORMERS
from video_models.transformer.model import VideoTransformer

PARAMETERS = {
    "causal-8x8x8": 127_141_843,
    "hunyuan-video": 246_478_803,
    "hunyuan-video-1.5": 1_260_634_115,
    "shapes": 523_916,
    "wan-2.1": 126_892_531,
    "wan-2.2": 704_688_668,
    "shapes dit": 1_383_344,
    "wan-2.1-1.3b": 1_418_996_800,
    "wan-2.1-14b": 14_288_491_584,
}


def on_meta(build, config):
    with torch.device("meta"):
        return build(config)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoders_have_exactly_their_parameters(name):
    assert count(on_meta(Autoencoder, AUTOENCODERS[name])) == PARAMETERS[name]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_have_exactly_their_parameters(name):
    key = "shapes dit" if name == "shapes" else name
    assert count(on_meta(VideoTransformer, TRANSFORMERS[name])) == PARAMETERS[key]


PUBLISHED = {
    "hunyuan-video": ("AutoencoderKLHunyuanVideo", {}),
    "hunyuan-video-1.5": ("AutoencoderKLHunyuanVideo15", {}),
    "wan-2.1": ("AutoencoderKLWan", {}),
    "wan-2.2": (
        "AutoencoderKLWan",
        {
            "base_dim": 160,
            "decoder_base_dim": 256,
            "z_dim": 48,
            "is_residual": True,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "scale_factor_spatial": 16,
            "latents_mean": [0.0] * 48,
            "latents_std": [1.0] * 48,
        },
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_autoencoders_are_as_large_as_in_diffusers(name):
    diffusers = pytest.importorskip("diffusers")
    kind, settings = PUBLISHED[name]
    peer = on_meta(lambda config: getattr(diffusers, kind)(**config), settings)
    assert count(peer) == PARAMETERS[name]


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_clip_becomes_latents_of_the_promised_shape_and_a_clip_again(name):
    config = AUTOENCODERS[name]
    frames, side = 1 + 2 * config.temporal_factor, 2 * config.spatial_factor
    model = on_meta(Autoencoder, config)
    video = torch.empty(1, 3, frames, side, side, device="meta")
    reconstruction, posterior = model(video)
    assert posterior.mean.shape == (1, *config.latent_shape(frames, side, side))
    assert reconstruction.shape == video.shape


def test_eight_by_eight_by_eight_encodes_a_tiny_clip():
    config = AUTOENCODERS["causal-8x8x8"]
    assert (config.temporal_factor, config.spatial_factor) == (8, 8)
    torch.manual_seed(0)
    model = Autoencoder(dataclasses.replace(config, base_dim=4))
    video = torch.rand(1, 3, 17, 16, 8) * 2 - 1
    with torch.no_grad():
        latents = model.encode(video).mean
        assert latents.shape == (1, 16, 3, 2, 1)
        later = video.clone()
        later[:, :, 9:] = 0  # the second group of eight
        assert torch.equal(model.encode(later).mean[:, :, :2], latents[:, :, :2])
        assert model.decode(latents).shape == video.shape
