"""Image to video computes what Wan 2.1 and 2.2 and first and last frame to video compute."""

import dataclasses

import pytest
import torch
from diffusers import WanTransformer3DModel

from tests.video_models.transformer.tiny import CONFIG, B, C, H, T, W, relative_error
from video_models.transformer.model import VideoTransformer

TEXT_TOKENS = 512
"""The peer tells text from image tokens by this number."""
IMAGE_TOKENS, IMAGE_DIM = 7, 10
PEER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 2 * C + 4,
    "out_channels": C,
    "text_dim": 16,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
}
CLIP = {"image_dim": IMAGE_DIM, "added_kv_proj_dim": 24}
KINDS = {
    "Wan 2.2": ({}, {}),
    "Wan 2.1": (CLIP, {"image_dim": IMAGE_DIM}),
    "first and last": (
        {**CLIP, "pos_embed_seq_len": 2 * IMAGE_TOKENS},
        {"image_dim": IMAGE_DIM, "image_positions": 2 * IMAGE_TOKENS},
    ),
}


def pair(kind):
    """Return the published model and ours with its weights, all of them drawn at random."""
    torch.manual_seed(0)
    theirs, ours = KINDS[kind]
    published = WanTransformer3DModel(**PEER, **theirs).eval()
    for name, parameter in published.named_parameters():
        if "pos_embed" in name or "norm" in name:
            torch.nn.init.normal_(parameter)
    config = dataclasses.replace(CONFIG, condition_channels=C + 4, **ours)
    model = VideoTransformer(config).eval()
    model.load_state_dict(published.state_dict())
    return published, model


def call_both(published, model):
    torch.manual_seed(1)
    latents, condition = torch.randn(B, C, T, H, W), torch.randn(B, C + 4, T, H, W)
    t, text = torch.rand(B), torch.randn(B, TEXT_TOKENS, 16)
    images = 2 if model.config.image_positions else 1
    image = torch.randn(B, images * IMAGE_TOKENS, IMAGE_DIM) if model.config.image_dim else None
    expected = published(
        torch.cat((latents, condition), dim=1),
        t * 1000,
        text,
        None if image is None else image.view(B * images, IMAGE_TOKENS, IMAGE_DIM),
        return_dict=False,
    )[0]
    return model(latents, t, text, condition=condition, image=image), expected


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_diffusers_computes_from_the_same_weights(kind):
    with torch.no_grad():
        ours, expected = call_both(*pair(kind))
    assert relative_error(ours, expected) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_diffusers(kind):
    published, model = pair(kind)
    ours, expected = call_both(published, model)
    ours.square().sum().backward()
    expected.square().sum().backward()
    theirs = dict(published.named_parameters())
    for name, parameter in model.named_parameters():
        assert relative_error(parameter.grad, theirs[name].grad) < 1e-4, name


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_diffusers(kind):
    published, model = pair(kind)
    shapes = {key: tensor.shape for key, tensor in published.state_dict().items()}
    assert {key: tensor.shape for key, tensor in model.state_dict().items()} == shapes


def test_image_and_condition_both_steer():
    _, model = pair("first and last")
    torch.manual_seed(1)
    latents, t, text = torch.randn(B, C, T, H, W), torch.rand(B), torch.randn(B, 5, 16)
    image = torch.randn(B, 2 * IMAGE_TOKENS, IMAGE_DIM)
    condition = torch.randn(B, C + 4, T, H, W)
    with torch.no_grad():
        out = model(latents, t, text, image=image, condition=condition)
        other_image = model(latents, t, text, image=image.flip(1), condition=condition)
        other_condition = model(latents, t, text, image=image, condition=condition.flip(2))
    assert relative_error(other_image, out) > 1e-3
    assert relative_error(other_condition, out) > 1e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": None}, "image is missing and image_dim is 10"),
        ({"condition": None}, "condition is missing and condition_channels is 8"),
        ({"image": torch.zeros(B, 5, IMAGE_DIM)}, "5 image tokens a sample; image_positions is 14"),
        ({"condition": torch.zeros(B, 3, T, H, W)}, "the condition has shape"),
        ({"guidance": torch.ones(B)}, "guidance is given and guidance_embedding is False"),
    ],
)
def test_what_does_not_fit_the_config_is_an_error(change, words):
    _, model = pair("first and last")
    given = {
        "image": torch.zeros(B, 2 * IMAGE_TOKENS, IMAGE_DIM),
        "condition": torch.zeros(B, C + 4, T, H, W),
    }
    with pytest.raises(ValueError, match=words):
        model(torch.zeros(B, C, T, H, W), torch.rand(B), torch.zeros(B, 5, 16), **given | change)


def test_a_model_without_images_takes_none():
    _, model = pair("Wan 2.2")
    condition = torch.zeros(B, C + 4, T, H, W)
    with pytest.raises(ValueError, match="image is given and image_dim is None"):
        model(
            torch.zeros(B, C, T, H, W),
            torch.rand(B),
            torch.zeros(B, 5, 16),
            condition=condition,
            image=torch.zeros(B, 7, IMAGE_DIM),
        )
