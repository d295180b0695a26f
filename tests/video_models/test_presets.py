"""Presets are the sizes that they say they are; nothing here allocates a weight."""

import dataclasses
import math

import pytest
import torch

from video_models.autoencoder.model import Autoencoder
from video_models.presets import AUTOENCODERS, JOINT_TRANSFORMERS, TRANSFORMERS
from video_models.transformer.family import build_transformer
from video_models.transformer.joint import JointTransformer
from video_models.transformer.model import VideoTransformer

PARAMETERS = {
    "causal-8x8x8": 127_141_843,
    "hunyuan-video": 246_478_803,
    "hunyuan-video-1.5": 1_260_634_115,
    "shapes": 523_916,
    "wan-2.1": 126_892_531,
    "wan-2.2": 704_688_668,
}


def on_meta(build, config):
    with torch.device("meta"):
        return build(config)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoders_have_exactly_their_parameters(name):
    assert count(on_meta(Autoencoder, AUTOENCODERS[name])) == PARAMETERS[name]


def linear(inputs, outputs):
    return inputs * outputs + outputs


def two_layers(inputs, dim):
    return linear(inputs, dim) + linear(dim, dim)


def parameters_of(c):
    """Count the parameters of a transformer in Wan's design by hand.

    A block has eight projections of attention, four of them with a norm of the width (query and
    key, twice), a norm before the cross-attention, a feed-forward network, and a table of six rows.
    """
    D, patch = c.num_heads * c.head_dim, math.prod(c.patch_size)
    block = 8 * linear(D, D) + 4 * D + 2 * D + linear(D, c.ffn_dim) + linear(c.ffn_dim, D) + 6 * D
    ends = linear(patch * (c.latent_channels + c.condition_channels), D)
    ends += two_layers(c.freq_dim, D) + linear(D, 6 * D) + two_layers(c.text_dim, D)
    ends += 2 * D + linear(D, patch * c.latent_channels)
    if c.image_dim:
        block += 2 * linear(D, D) + D
        ends += 2 * c.image_dim + linear(c.image_dim, c.image_dim) + linear(c.image_dim, D) + 2 * D
        ends += (c.image_positions or 0) * c.image_dim
    return c.num_layers * block + ends


def parameters_of_joint(c):
    """Count the parameters of a joint transformer by hand."""
    D, patch = c.num_heads * c.head_dim, math.prod(c.patch_size)
    ffn = linear(D, c.ffn_dim) + linear(c.ffn_dim, D)
    dual = 2 * (4 * linear(D, D) + 2 * c.head_dim + ffn + linear(D, 6 * D))
    single = 3 * linear(D, D) + 2 * c.head_dim + linear(D, 3 * D)
    single += linear(D, c.ffn_dim) + linear(D + c.ffn_dim, D)
    refiner = 4 * linear(D, D) + 4 * D + linear(D, 4 * D) + linear(4 * D, D) + linear(D, 2 * D)
    number = two_layers(256, D)
    text = linear(c.text_dim, D)
    text += number + two_layers(c.text_dim, D) if c.num_refiner_layers else 0
    ends = linear(patch * (c.latent_channels + c.condition_channels), D)
    ends += number * (2 if c.guidance_embedding else 1)
    ends += two_layers(c.pooled_dim, D) if c.pooled_dim else 0
    ends += linear(D, 2 * D) + linear(D, patch * c.latent_channels)
    blocks = c.num_layers * dual + c.num_single_layers * single + c.num_refiner_layers * refiner
    return blocks + text + ends


ABOUT = {
    "130m": 131e6,
    "25m": 24e6,
    "hunyuan-video": 12.8e9,
    "flux-12b": 11.9e9,
    "joint-25m": 25.7e6,
    "movie-gen-30b": 30e9,
    "shapes": 1.4e6,
    "wan-2.1-1.3b": 1.4e9,
    "wan-2.1-14b": 14.3e9,
    "wan-2.1-flf2v-14b": 16.4e9,
    "wan-2.1-i2v-14b": 16.4e9,
    "wan-2.2-i2v-a14b": 14.3e9,
    "wan-2.2-t2v-a14b": 14.3e9,
    "wan-2.2-ti2v-5b": 5e9,
}
"""How large models of these names are said to be."""


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_have_exactly_their_parameters(name):
    config = TRANSFORMERS[name]
    assert count(on_meta(VideoTransformer, config)) == parameters_of(config)
    assert parameters_of(config) == pytest.approx(ABOUT[name], rel=0.03)


@pytest.mark.parametrize("name", JOINT_TRANSFORMERS)
def test_joint_transformers_have_exactly_their_parameters(name):
    config = JOINT_TRANSFORMERS[name]
    assert count(on_meta(JointTransformer, config)) == parameters_of_joint(config)
    assert parameters_of_joint(config) == pytest.approx(ABOUT[name], rel=0.03)


def test_movie_gen_sees_as_many_tokens_as_in_its_paper():
    """16 seconds of 768 x 768 at 16 frames a second, shrunk by 8 x 8 x 8, are 73K tokens."""
    model = on_meta(VideoTransformer, TRANSFORMERS["movie-gen-30b"])
    latents = torch.empty(1, 16, 256 // 8, 768 // 8, 768 // 8, device="meta")
    assert math.prod(model.token_grid(latents)) == 73_728


I2V = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
PUBLISHED_TRANSFORMERS = {
    "hunyuan-video": ("HunyuanVideoTransformer3DModel", {}),
    "wan-2.1-1.3b": (
        "WanTransformer3DModel",
        {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    ),
    "wan-2.1-14b": ("WanTransformer3DModel", {}),
    "wan-2.1-flf2v-14b": ("WanTransformer3DModel", {**I2V, "pos_embed_seq_len": 514}),
    "wan-2.1-i2v-14b": ("WanTransformer3DModel", I2V),
    "wan-2.2-i2v-a14b": ("WanTransformer3DModel", {"in_channels": 36}),
    "wan-2.2-ti2v-5b": (
        "WanTransformer3DModel",
        {
            "num_attention_heads": 24,
            "ffn_dim": 14336,
            "num_layers": 30,
            "in_channels": 48,
            "out_channels": 48,
        },
    ),
}


@pytest.mark.parametrize("name", PUBLISHED_TRANSFORMERS)
def test_published_transformers_have_the_tensors_of_diffusers(name):
    diffusers = pytest.importorskip("diffusers")
    kind, settings = PUBLISHED_TRANSFORMERS[name]
    peer = on_meta(lambda config: getattr(diffusers, kind)(**config), settings)
    ours = on_meta(build_transformer, (TRANSFORMERS | JOINT_TRANSFORMERS)[name])
    shapes = [{key: x.shape for key, x in each.state_dict().items()} for each in (ours, peer)]
    assert shapes[0] == shapes[1]


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
