"""The shapes that an autoencoder takes and gives, its gradients, and how it starts."""

from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from tests.video_models.autoencoder.shapes import ALL, VARIANTS, small
from video_models.autoencoder.model import Autoencoder


@pytest.fixture(params=ALL)
def model(request):
    torch.manual_seed(0)
    return Autoencoder(ALL[request.param]).eval()


def clip_of(model, frames, *, batch=1):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, frames, 16, 32, generator=generator) * 2 - 1


def test_latents_and_reconstruction_have_the_promised_shapes(model):
    for groups in (0, 1, 2):
        frames = 1 + groups * model.config.temporal_factor
        video = clip_of(model, frames, batch=2)
        reconstruction, posterior = model(video)
        assert posterior.mean.shape == (2, *model.config.latent_shape(frames, 16, 32))
        assert posterior.logvar.shape == posterior.mean.shape
        assert reconstruction.shape == video.shape
        assert reconstruction.is_contiguous()


@pytest.mark.parametrize("model", VARIANTS, indirect=True)
def test_a_longer_clip_begins_with_the_shorter_clips_latents_and_frames(model):
    factor = model.config.temporal_factor
    video = clip_of(model, 1 + 2 * factor)
    with torch.no_grad():
        whole, part = model.encode(video).mean, model.encode(video[:, :, : 1 + factor]).mean
        torch.testing.assert_close(whole[:, :, :2], part, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            model.decode(whole)[:, :, : 1 + factor], model.decode(part), atol=1e-5, rtol=1e-5
        )


def test_every_parameter_gets_a_gradient_from_a_video(model):
    video = clip_of(model, 1 + model.config.temporal_factor)
    noise = torch.randn(1, *model.config.latent_shape(*video.shape[2:]))
    reconstruction, posterior = model(video, noise)
    ((reconstruction - video).square().mean() + posterior.kl().mean()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("frames", [0, 2, 3, 4, 6])
def test_a_length_that_does_not_fit_names_those_that_do(frames):
    with pytest.raises(ValueError, match=r"allowed are 1 \+ 4 n frames: 1, 5, 9, 13"):
        Autoencoder(small()).encode(torch.zeros(1, 3, frames, 16, 16))


def test_a_size_that_does_not_fit_names_those_that_do():
    with pytest.raises(ValueError, match=r"17 x 16 pixels.*multiples of 2"):
        Autoencoder(small()).encode(torch.zeros(1, 3, 5, 17, 16))


def test_wrong_channels_are_refused():
    model = Autoencoder(small())
    with pytest.raises(ValueError, match=r"\(B, 3, T, H, W\)"):
        model.encode(torch.zeros(1, 4, 5, 16, 16))
    with pytest.raises(ValueError, match=r"\(B, 4, T, H, W\)"):
        model.decode(torch.zeros(1, 3, 2, 8, 8))


def test_normalise_and_denormalise_undo_each_other():
    model = Autoencoder(small())
    model.set_normalisation([1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 2.0, 4.0])
    latents = torch.tensor([1.5, 3.0, 5.0, 8.0]).view(1, 4, 1, 1, 1).expand(2, 4, 3, 2, 2)
    assert torch.equal(model.normalise(latents), torch.ones(2, 4, 3, 2, 2))
    assert torch.equal(model.denormalise(model.normalise(latents)), latents)
    assert model.config.latents_std == (0.5, 1.0, 2.0, 4.0)


def test_normalisation_is_no_weight():
    model = Autoencoder(small())
    assert not any("latent" in name for name in model.state_dict())


def test_a_normalisation_of_the_wrong_size_or_sign_is_refused():
    model = Autoencoder(small())
    with pytest.raises(ValueError, match="latents_mean has 3 entries; latent_channels is 4"):
        model.set_normalisation([0.0] * 3, [1.0] * 3)
    with pytest.raises(ValueError, match="latents_std"):
        model.set_normalisation([0.0] * 4, [1.0, 1.0, 0.0, 1.0])


def test_block_names_name_modules_that_hold_almost_all_work(model):
    modules = dict(model.named_modules())
    named = sum(
        parameter.numel()
        for name in model.block_names()
        for parameter in modules[name].parameters()
    )
    total = sum(parameter.numel() for parameter in model.parameters())
    assert 0.7 * total < named < total


def test_half_precision_runs(model):
    video = clip_of(model, 1 + model.config.temporal_factor)
    with torch.no_grad():
        exact, _ = model(video)
        rough, _ = model.to(torch.bfloat16)(video.to(torch.bfloat16))
    assert rough.dtype == torch.bfloat16
    agreement = torch.cosine_similarity(rough.float().flatten(), exact.flatten(), dim=0)
    assert 0.95 < agreement < 1


def test_a_fresh_posterior_is_narrow(model):
    with torch.no_grad():
        logvar = model.encode(clip_of(model, 1 + model.config.temporal_factor)).logvar
    assert (logvar < -3).all()


def test_a_fresh_model_treats_a_still_clip_as_copies_of_its_first_frame():
    torch.manual_seed(0)
    model = Autoencoder(small(kernel_frames=1)).eval()
    image = clip_of(model, 1)
    with torch.no_grad():
        alone, _ = model(image)
        still, _ = model(image.expand(-1, -1, 9, -1, -1))
    torch.testing.assert_close(still, alone.expand_as(still), atol=1e-5, rtol=1e-5)


def test_recomputed_blocks_give_the_same_gradients(model):
    video = clip_of(model, 1 + model.config.temporal_factor)

    def gradients():
        model.zero_grad()
        model(video)[0].square().mean().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    stored = gradients()
    with torch.no_grad():
        reconstruction = model(video)[0]
    for name in model.block_names():
        block = model.get_submodule(name)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for ours, theirs in zip(gradients(), stored, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():  # validation runs the same blocks with a memory
        assert torch.equal(model(video)[0], reconstruction)
