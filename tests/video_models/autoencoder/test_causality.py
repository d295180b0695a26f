"""What depends on what, by the whole Jacobian: nothing sees a later frame."""

import pytest
import torch

from tests.video_models.autoencoder.shapes import VARIANTS, clip_of, latents_of, make_model


@pytest.fixture(params=VARIANTS)
def model(request):
    return make_model(request.param).double()


def reach(call, x):
    """Return (T_out, T_in): how much each output frame depends on each input frame."""
    weights = torch.randn(call(x).shape, generator=torch.Generator().manual_seed(3)).to(x)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: (call(x) * weights).sum(dim=(0, 1, 3, 4)), x
    )
    return jacobian.abs().sum(dim=(1, 2, 4, 5))


def test_a_latent_depends_on_its_own_frames_and_those_before_only(model):
    factor = model.config.temporal_factor
    video = clip_of(model, 1 + 3 * factor).double()
    table = reach(lambda video: model.encode(video).mean, video)
    for latent, row in enumerate(table):
        last = latent * factor
        assert (row[last + 1 :] == 0).all()
        assert (row[max(0, last - factor + 1) : last + 1] > 0).all()


def test_a_frame_depends_on_its_own_latent_and_those_before_only(model):
    factor = model.config.temporal_factor
    table = reach(model.decode, latents_of(model, 4).double())
    for frame, row in enumerate(table):
        own = -(-frame // factor)
        assert (row[own + 1 :] == 0).all()
        assert row[own] > 0


def test_the_first_frame_stands_alone(model):
    video = clip_of(model, 1 + model.config.temporal_factor)[:, :, :1].double()
    longer = torch.cat((video, clip_of(model, model.config.temporal_factor).double()), dim=2)
    alone, first = model.encode(video).mean, model.encode(longer).mean[:, :, :1]
    torch.testing.assert_close(alone, first)
