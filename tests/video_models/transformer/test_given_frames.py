"""Given frames reach the transformer as the published pipelines hand them over."""

import pytest
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline

from tests.video_models.transformer.tiny import inputs_of, tiny
from video_models.transformer.given_frames import frame_mask, given_frames, token_times

FRAMES, HEIGHT, WIDTH = 9, 16, 24


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=3,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    parts = {"tokenizer": None, "text_encoder": None, "image_processor": None}
    return WanImageToVideoPipeline(vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(), **parts)


@pytest.mark.parametrize("last", [False, True])
def test_the_condition_is_that_of_diffusers(pipeline, last):
    image = torch.rand(1, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        _, expected = pipeline.prepare_latents(
            image, 1, 4, HEIGHT, WIDTH, FRAMES, last_image=image if last else None
        )
    given = torch.zeros(1, FRAMES, dtype=torch.bool)
    given[:, 0], given[:, -1] = True, last
    condition = given_frames(given, expected[:, 4:], temporal_factor=4)
    torch.testing.assert_close(condition, expected, rtol=0, atol=0)


def test_each_frame_of_a_latent_frame_has_a_channel():
    given = torch.tensor([[True, False, True, False, False]])
    assert frame_mask(given, temporal_factor=4).int().tolist() == [[[1, 0], [1, 1], [1, 0], [1, 0]]]


def test_frames_that_make_no_whole_latents_are_an_error():
    with pytest.raises(ValueError, match="8 frames; with temporal_factor 4 there are 4 n"):
        frame_mask(torch.ones(1, 8, dtype=torch.bool), temporal_factor=4)


def test_given_frames_have_time_zero():
    given = torch.tensor([[True, False, False], [False, False, True]])
    times = token_times(torch.tensor([0.5, 0.75]), given, (3, 1, 2))
    assert times.tolist() == [[0, 0, 0.5, 0.5, 0.5, 0.5], [0.75, 0.75, 0.75, 0.75, 0, 0]]


def test_a_clip_without_given_frames_has_one_time():
    model = tiny()
    latents, t, rest = inputs_of(model)
    times = token_times(t, torch.zeros(2, 3, dtype=torch.bool), model.token_grid(latents))
    with torch.no_grad():
        torch.testing.assert_close(model(latents, times, **rest), model(latents, t, **rest))
