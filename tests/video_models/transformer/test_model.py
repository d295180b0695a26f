"""The transformer computes what the published model computes, and what its options promise."""

import dataclasses

import pytest
import torch
from diffusers import WanTransformer3DModel

from tests.video_models.transformer.tiny import CONFIG, B, C, H, L, T, W, relative_error
from video_models.layers.attention import attend, attend_plainly
from video_models.presets import TRANSFORMERS
from video_models.transformer.model import VideoTransformer


def tiny(seed=0, **changes):
    torch.manual_seed(seed)
    return VideoTransformer(dataclasses.replace(CONFIG, zero_init_output=False, **changes)).eval()


def peer(**changes):
    torch.manual_seed(0)
    sizes = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": C,
        "out_channels": C,
        "text_dim": 16,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 2,
    }
    return WanTransformer3DModel(**{**sizes, **changes}).eval()


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return torch.randn(B, C, T, H, W), torch.rand(B), torch.randn(B, L, 16)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"cross_attn_norm": False}, {"cross_attention_norm": False}),
        ({"patch_size": (1, 1, 1)}, {"patch_size": (1, 1, 1)}),
        ({"patch_size": (3, 2, 1)}, {"patch_size": (3, 2, 1)}),
        ({"attention_head_dim": 16}, {"head_dim": 16}),
        ({"eps": 1e-2}, {"eps": 1e-2}),
    ],
)
def test_it_computes_what_diffusers_computes_from_the_same_weights(theirs, ours, inputs):
    latents, t, text = inputs
    published, model = peer(**theirs), tiny(**ours)
    model.load_state_dict(published.state_dict())
    with torch.no_grad():
        expected = published(latents, t * 1000, text, return_dict=False)[0]
        assert relative_error(model(latents, t, text), expected) < 1e-5


def test_a_time_for_each_token_computes_what_diffusers_computes(inputs):
    latents, _, text = inputs
    published, model = peer(), tiny()
    model.load_state_dict(published.state_dict())
    t = torch.rand(B, T * H * W // 4)
    with torch.no_grad():
        expected = published(latents, t * 1000, text, return_dict=False)[0]
        assert relative_error(model(latents, t, text), expected) < 1e-5


def test_gradients_are_those_of_diffusers(inputs):
    latents, t, text = inputs
    published, model = peer(), tiny()
    model.load_state_dict(published.state_dict())
    published(latents, t * 1000, text, return_dict=False)[0].square().sum().backward()
    model(latents, t, text).square().sum().backward()
    theirs = dict(published.named_parameters())
    for name, parameter in model.named_parameters():
        assert relative_error(parameter.grad, theirs[name].grad) < 1e-4, name


@pytest.mark.parametrize("name", ["wan-2.1-1.3b", "wan-2.1-14b"])
def test_published_sizes_have_the_tensors_of_diffusers(name):
    config = TRANSFORMERS[name]
    with torch.device("meta"):
        ours = VideoTransformer(config)
        theirs = WanTransformer3DModel(
            num_attention_heads=config.num_heads,
            attention_head_dim=config.head_dim,
            ffn_dim=config.ffn_dim,
            num_layers=config.num_layers,
        )
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == shapes


def test_an_untrained_model_answers_with_zeros(inputs):
    latents, t, text = inputs
    torch.manual_seed(0)
    assert not VideoTransformer(CONFIG)(latents, t, text).any()


def test_every_parameter_learns_after_the_first_step(inputs):
    latents, t, text = inputs
    model = tiny()
    model(latents, t, text).square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_hidden_text_tokens_change_nothing(inputs):
    latents, t, text = inputs
    model = tiny(text_padding="mask")
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    changed = torch.where(mask[..., None], text, torch.randn_like(text))
    with torch.no_grad():
        torch.testing.assert_close(
            model(latents, t, text, text_mask=mask), model(latents, t, changed, text_mask=mask)
        )
        alone = model(latents[:1], t[:1], text[:1, :3])
        torch.testing.assert_close(model(latents, t, text, text_mask=mask)[:1], alone)


def test_zeroed_text_tokens_take_part(inputs):
    latents, t, text = inputs
    model = tiny(text_padding="zeros")
    mask = torch.tensor([[True] * 3 + [False] * 2] * 2)
    with torch.no_grad():
        padded = model(latents, t, text, text_mask=mask)
        torch.testing.assert_close(padded, model(latents, t, text * mask[..., None]))
        assert relative_error(model(latents, t, text[:, :3]), padded) > 1e-4


@pytest.mark.parametrize("told", [False, True])
def test_only_absolute_positions_tell_equal_patches_apart(inputs, told):
    _, t, text = inputs
    with torch.no_grad():
        out = tiny(absolute_positions=told)(torch.ones(B, C, T, H, W), t, text)
    apart = out.unflatten(-1, (-1, 2)).std(dim=(2, -2)).amax()
    assert (float(apart) > 1e-3) == told


def test_the_attention_function_is_the_one_passed_in(inputs):
    latents, t, text = inputs
    calls = []

    def counted(q, k, v, mask):
        calls.append((q.shape, k.shape))
        return attend(q, k, v, mask)

    torch.manual_seed(0)
    model = VideoTransformer(CONFIG, attention=counted)
    model(latents, t, text)
    S = T * H * W // 4
    assert calls == [((B, S, 2, 12), (B, S, 2, 12))] * CONFIG.num_layers


@pytest.mark.parametrize("masked", [False, True])
def test_the_plain_kernel_computes_what_the_fast_one_does(masked):
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 7, 3, 8), torch.randn(2, 5, 3, 8), torch.randn(2, 5, 3, 8)
    mask = torch.tensor([[True] * 4 + [False]] * 2) if masked else None
    torch.testing.assert_close(attend(q, k, v, mask), attend_plainly(q, k, v, mask))


def test_under_autocast_the_time_stays_in_float32(inputs):
    latents, t, text = inputs
    model = tiny()
    seen = {}
    for name in ("time_embedder", "time_proj"):
        layer = getattr(model.condition_embedder, name)
        layer.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        model(latents, t, text)
        exact = dict(seen)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(latents, t, text)
    for name in exact:
        torch.testing.assert_close(seen[name], exact[name], rtol=0, atol=0)
    assert torch.isfinite(half).all()


def test_an_untrained_guidance_input_changes_nothing(inputs):
    latents, t, text = inputs
    plain, told = tiny(), tiny(guidance_embedding=True)
    missing = told.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert all(key.startswith("condition_embedder.guidance_embedder.") for key in missing)
    with torch.no_grad():
        told_output = told(latents, t, text, guidance=torch.tensor([1.0, 7.5]))
        torch.testing.assert_close(told_output, plain(latents, t, text), rtol=0, atol=0)


def test_the_guidance_scale_is_an_input_of_students_that_take_it(inputs):
    latents, t, text = inputs
    model = tiny(guidance_embedding=True)
    torch.nn.init.normal_(model.condition_embedder.guidance_embedder.linear_2.weight)
    with torch.no_grad():
        low, high = (model(latents, t, text, guidance=torch.full((B,), w)) for w in (1.0, 7.5))
    assert relative_error(low, high) > 1e-3


@pytest.mark.parametrize("takes", [False, True])
def test_guidance_against_the_config_is_an_error(takes, inputs):
    latents, t, text = inputs
    guidance = None if takes else torch.ones(B)
    with pytest.raises(ValueError, match=f"guidance_embedding is {takes}"):
        tiny(guidance_embedding=takes)(latents, t, text, guidance=guidance)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((B, 3, T, H, W), "this model takes"),
        ((B, C, H, W), "this model takes"),
        ((B, C, T, 7, W), "do not divide into patches"),
        ((B, C, T, H, 2 * 1026), "max_positions allows 1024"),
    ],
)
def test_latents_that_do_not_fit_are_an_error(shape, words):
    with pytest.raises(ValueError, match=words):
        tiny()(torch.zeros(shape), torch.zeros(B), torch.zeros(B, L, 16))


def test_block_names_are_modules():
    model = tiny()
    assert model.block_names() == ("blocks.0", "blocks.1")
    assert model.get_submodule("blocks.1") is model.blocks[1]
