"""What a frozen vision network sees in frames: tokens in order, gradients, refusals."""

import json

import pytest
import torch

from tests.tiny_vision import make_vision
from video_models.image.features import open_frame_network, vision_kind


@pytest.fixture(scope="module", params=["dinov2", "clip"])
def folder(request, tmp_path_factory):
    return make_vision(tmp_path_factory.mktemp(request.param), request.param)


def frames(num=2, length=3):
    torch.manual_seed(0)
    return torch.rand(num, 3, length, 16, 16) * 2 - 1


def test_tokens_are_those_of_each_frame_in_order(folder):
    network, clips = open_frame_network(folder, blocks=(0, 1)), frames()
    seen = network(clips)
    assert seen.grid == (3, 4, 4)
    assert [tokens.shape for tokens in seen.tokens] == [(2, 48, 12)] * 2
    assert seen.summary.shape == (2, 12)
    alone = network(clips[1:, :, 2:])
    for both, one in zip(seen.tokens, alone.tokens, strict=True):
        torch.testing.assert_close(both[1, 32:], one[0], rtol=1e-4, atol=1e-5)


def test_a_patch_changes_its_own_token_most(folder):
    network, clips = open_frame_network(folder, blocks=(0,)), frames(1, 1)
    changed = clips.clone()
    changed[..., 4:8, 8:12] *= -1  # the patch in row 1, column 2
    moved = (network(changed).tokens[0] - network(clips).tokens[0]).abs().sum(-1)[0]
    assert moved.argmax() == 6


def test_gradient_flows_to_the_frames_and_to_no_weight(folder):
    network, clips = open_frame_network(folder), frames().requires_grad_()
    seen = network(clips)
    (sum(tokens.square().sum() for tokens in seen.tokens) + seen.summary.sum()).backward()
    assert (clips.grad.abs().sum(dim=(0, 1, 3, 4)) > 0).all()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_frames_of_any_size_are_seen_at_the_side_that_is_asked_for(folder):
    network = open_frame_network(folder, side=24)
    assert network(torch.zeros(1, 3, 2, 10, 30)).grid == (2, 6, 6)


@pytest.mark.parametrize(
    ("knobs", "named"), [({"blocks": (2,)}, "last is 1"), ({"side": 18}, "multiple of 4")]
)
def test_what_the_network_cannot_do_is_refused(folder, knobs, named):
    with pytest.raises(ValueError, match=named):
        open_frame_network(folder, **knobs)


def test_a_folder_of_something_else_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"no config\.json"):
        vision_kind(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ValueError, match="unknown vision network 'vit'; known: clip"):
        vision_kind(tmp_path)


def test_a_network_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    with pytest.raises(ValueError, match="no dinov2 network with safetensors weights"):
        open_frame_network(tmp_path)
