"""An image model becomes a video model that treats single frames as it did."""

import dataclasses

import pytest
import torch

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.quantiser_config import QuantiserConfig, TokenAutoencoderConfig
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.autoencoder.warm_start import freeze_all_but_decoder, start_from

IMAGES = AutoencoderConfig(
    base_dim=8,
    latent_channels=4,
    dim_mult=(1, 2, 2),
    num_res_blocks=1,
    space_down=(True, True),
    time_down=(False, False),
    kernel_frames=1,
)


def trained(config, *, seed):
    """Weights that no initialisation would give."""
    torch.manual_seed(seed)
    model = Autoencoder(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def clip(frames):
    return torch.rand(2, 3, frames, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


SWITCHES = {
    "wan": {},
    "strided": {
        "padding": "replicate", "resampler": "strided", "norm": "group_frame", "norm_groups": 4
    },
}  # fmt: skip


@pytest.mark.parametrize("design", SWITCHES)
@pytest.mark.parametrize("time_down", [(False, False), (True, True)])
@pytest.mark.parametrize("kernel_frames", [1, 3])
def test_on_single_frames_the_inflated_model_equals_the_image_model(
    design, time_down, kernel_frames
):
    images = dataclasses.replace(IMAGES, **SWITCHES[design])
    image_model = trained(images, seed=1)
    config = dataclasses.replace(images, kernel_frames=kernel_frames, time_down=time_down)
    torch.manual_seed(2)
    model = Autoencoder(config).eval()
    start_from(model, image_model)
    (one, code), (other, expected) = model(clip(1)), image_model(clip(1))
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(code.mean, expected.mean)


def test_without_resampling_in_time_the_inflated_model_treats_each_frame_as_an_image():
    image_model = trained(IMAGES, seed=1)
    model = Autoencoder(dataclasses.replace(IMAGES, kernel_frames=3)).eval()
    start_from(model, image_model)
    video = clip(3)
    frames = [image_model(video[:, :, t : t + 1])[0] for t in range(3)]
    torch.testing.assert_close(model(video)[0], torch.cat(frames, dim=2))


def test_the_same_size_is_copied_with_its_normalisation():
    source = trained(dataclasses.replace(IMAGES, kernel_frames=3), seed=1)
    source.set_normalisation([0.5] * 4, [2.0] * 4)
    model = trained(dataclasses.replace(IMAGES, kernel_frames=3), seed=2)
    start_from(model, source)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), source.parameters(), strict=True)
    )
    assert model.config == source.config


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"base_dim": 16}, r"of shape .*, this size needs"),
        ({"num_res_blocks": 2}, r"it must be of the same kind, levels and blocks"),
        ({"residual_resampling": True, "time_down": (True, False)}, r"time_down \(False, False\)"),
    ],
)
def test_a_source_of_another_shape_is_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        start_from(Autoencoder(dataclasses.replace(IMAGES, **changes)), trained(IMAGES, seed=1))


def test_a_video_model_is_not_pressed_into_an_image_model():
    source = trained(dataclasses.replace(IMAGES, kernel_frames=3), seed=1)
    with pytest.raises(ValueError, match="only kernels that span one frame are inflated"):
        start_from(Autoencoder(IMAGES), source)


def test_freezing_leaves_only_the_way_from_latents_to_pixels():
    model = Autoencoder(IMAGES)
    freeze_all_but_decoder(model)
    names = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"post_quant_conv", "decoder"}
    assert not model.encoder.training and model.decoder.training


def test_a_frozen_codebook_counts_nothing():
    quantiser = QuantiserConfig(kind="fsq", levels=(5, 5))
    model = TokenAutoencoder(TokenAutoencoderConfig(backbone=IMAGES, quantiser=quantiser))
    freeze_all_but_decoder(model)
    model(clip(1))
    assert model.update_codebook()["usage"] == 0
