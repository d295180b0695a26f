"""What makes the transformer fast on a CPU changes nothing that may be asked of it.

All products are given to oneDNN here, also those that are too small to profit.
"""

import pytest
import torch
from diffusers import WanTransformer3DModel

from tests.video_models.transformer.tiny import B, C, H, L, T, W, relative_error, tiny
from video_models.layers import linear


@pytest.fixture(autouse=True)
def small_products_too(monkeypatch):
    monkeypatch.setattr(linear, "FEWEST_PRODUCTS", 0)


def peer_of(model):
    peer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=C,
        out_channels=C,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
    )
    peer.load_state_dict(model.state_dict())
    return peer.eval()


def inputs(batch):
    torch.manual_seed(1)
    return torch.randn(batch, C, T, H, W), torch.rand(batch), torch.randn(batch, L, 16)


@pytest.mark.parametrize("batch", [1, B])
def test_outputs_and_gradients_are_those_of_diffusers(batch):
    latents, t, text = inputs(batch)
    model = tiny()
    published = peer_of(model)
    expected = published(latents, t * 1000, text, return_dict=False)[0]
    expected.square().sum().backward()
    with torch.no_grad():
        assert relative_error(model(latents, t, text), expected) < 1e-5
        assert relative_error(model(latents, t, model.prepare(text)), expected) < 1e-5
    mine = model(latents, t, text)
    assert relative_error(mine.detach(), expected.detach()) < 1e-5
    mine.square().sum().backward()
    theirs = dict(published.named_parameters())
    for name, parameter in model.named_parameters():
        assert relative_error(parameter.grad, theirs[name].grad) < 1e-4, name


@pytest.mark.parametrize("batch", [1, B])
def test_gradients_to_the_latents_of_a_frozen_model_are_those_of_diffusers(batch):
    latents, t, text = inputs(batch)
    model = tiny()
    published = peer_of(model)
    given = [latents.clone().requires_grad_() for _ in range(2)]
    model.requires_grad_(False)(given[0], t, text).square().sum().backward()
    published(given[1], t * 1000, text, return_dict=False)[0].square().sum().backward()
    assert relative_error(given[0].grad, given[1].grad) < 1e-4


# PyTorch scripts its own decompositions on the first forward-mode derivative.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("batch", [1, B])
def test_forward_mode_is_the_same_with_a_graph_without_one_and_in_double(batch):
    latents, t, text = inputs(batch)
    model = tiny(plainly=True).requires_grad_(False)
    directions = (torch.ones_like(latents), torch.full_like(t, 0.1))

    def tangent(dtype):
        given, ahead = ([x.to(dtype) for x in xs] for xs in ((latents, t), directions))
        network = model.to(dtype)
        return torch.func.jvp(
            lambda x, time: network(x, time, text.to(dtype)), tuple(given), tuple(ahead)
        )[1]

    with_graph = tangent(torch.float32)
    with torch.no_grad():
        assert relative_error(tangent(torch.float32), with_graph) < 1e-5
    assert relative_error(with_graph, tangent(torch.float64)) < 1e-3


def test_tokens_after_a_block_are_kept_as_they_were():
    latents, t, text = inputs(1)
    model = tiny()
    with torch.no_grad():
        _, kept = model(latents, t, text, features=(0,))
        before = kept[0].clone()
        model.blocks = model.blocks[:1]
        _, alone = model(latents, t, text, features=(0,))
    assert torch.equal(kept[0], before)
    assert torch.equal(alone[0], before)


def test_what_is_given_is_not_overwritten():
    latents, t, text = inputs(1)
    model = tiny()
    copies = [x.clone() for x in (latents, t, text)]
    with torch.no_grad():
        prepared = model.prepare(text)
        first = model(latents, t, prepared)
        assert torch.equal(model(latents, t, prepared), first)
    for given, copy in zip((latents, t, text), copies, strict=True):
        assert torch.equal(given, copy)
