"""The joint transformer: what it is told matters, what is hidden does not, and derivatives pass."""

import dataclasses
import math

import pytest
import torch

from tests.video_models.transformer.tiny import relative_error
from tests.video_models.transformer.tiny_joint import (
    CONFIG,
    VARIANTS,
    B,
    C,
    H,
    L,
    S,
    T,
    W,
    inputs_of,
    tiny,
)
from video_models.layers.attention import attend_plainly
from video_models.layers.sequence import WHOLE
from video_models.transformer.family import build_transformer
from video_models.transformer.joint import JointTransformer
from video_models.transformer.lora import add_lora, lora_state


@pytest.fixture(params=VARIANTS)
def model(request):
    return tiny(**VARIANTS[request.param])


def run(model, given, **changes):
    latents, t, rest = given
    with torch.no_grad():
        return model(latents, t, **(rest | changes))


def test_an_untrained_model_answers_with_zeros():
    torch.manual_seed(0)
    model = JointTransformer(CONFIG)
    assert not run(model, inputs_of(model)).any()


def test_a_family_is_built_from_its_config():
    assert isinstance(build_transformer(CONFIG), JointTransformer)


def test_everything_that_it_is_told_matters(model):
    given = inputs_of(model)
    latents, t, rest = given
    out = run(model, given)
    assert out.shape == latents.shape
    assert relative_error(run(model, (latents, t.flip(0), rest)), out) > 1e-3
    assert relative_error(run(model, (latents.flip(2), t, rest)), out) > 1e-3
    for name, value in rest.items():
        changed = value.flip(-1) if value.dim() > 1 else value.flip(0)
        assert relative_error(run(model, given, **{name: changed}), out) > 1e-4, name


def test_hidden_text_does_not_matter(model):
    given = inputs_of(model)
    mask, text = given[2]["text_mask"], given[2]["text"]
    out = run(model, given)
    assert not mask.all()
    noisy = torch.where(mask[..., None], text, torch.randn_like(text) * 100)
    torch.testing.assert_close(run(model, given, text=noisy), out, rtol=1e-5, atol=1e-5)
    # the sample with the shorter caption alone, without slots after it
    latents, t, rest = given
    rest = {name: value[1:] for name, value in rest.items() if name != "text_mask"}
    alone = run(model, (latents[1:], t[1:], rest | {"text": text[1:, :3]}))
    torch.testing.assert_close(alone, out[1:], rtol=1e-5, atol=1e-5)


def test_a_prepared_text_gives_the_same_bit_for_bit(model):
    latents, t, rest = inputs_of(model)
    known = {name: rest.pop(name) for name in ("text", "text_mask", "pooled") if name in rest}
    out = run(model, (latents, t, rest | known))
    with torch.no_grad():
        prepared = model.prepare(known.pop("text"), **known)
    for _ in range(2):
        assert torch.equal(run(model, (latents, t, rest | {"text": prepared})), out)
    with pytest.raises(ValueError, match="has its mask and pooled embedding"):
        run(model, (latents, t, rest | {"text": prepared, "text_mask": torch.ones(B, L).bool()}))


def test_the_pooled_text_may_come_as_that_of_a_second_encoder():
    model = tiny(**VARIANTS["pooled text"])
    latents, t, rest = inputs_of(model)
    out = run(model, (latents, t, rest))
    pooled, mask = rest.pop("pooled")[:, None], rest.pop("text_mask")
    both = {"text": [rest["text"], pooled], "text_mask": [mask, torch.ones(B, 1).bool()]}
    assert torch.equal(run(model, (latents, t, both)), out)
    with torch.no_grad():
        prepared = model.prepare(both["text"], text_mask=both["text_mask"])
    assert torch.equal(run(model, (latents, t, {"text": prepared})), out)
    for texts in ([rest["text"]], [rest["text"], rest["text"]], [rest["text"], pooled, pooled]):
        with pytest.raises(ValueError, match="a list of its tokens and of one pooled embedding"):
            run(model, (latents, t, {"text": texts}))


def test_tokens_after_chosen_blocks_are_those_of_the_video(model):
    given, last = inputs_of(model), len(model.block_names()) - 1
    seen = {}
    module = model.get_submodule(model.block_names()[last])
    module.register_forward_hook(lambda _m, _i, out: seen.update(last=out))
    velocity, tokens = run(model, given, features=(last,))
    tokens_of_video = math.prod(model.token_grid(given[0]))
    assert tokens[last].shape == (B, tokens_of_video, model.config.dim)
    assert torch.equal(tokens[last], seen["last"][:, :tokens_of_video])
    assert torch.equal(velocity, run(model, given))
    with pytest.raises(ValueError, match=rf"features name blocks \[{last + 1}\]"):
        run(model, given, features=(last + 1,))


def test_forward_mode_derivatives_pass_and_are_right(model):
    model = tiny(**VARIANTS["pooled text"], attention=attend_plainly).double()
    latents, t, rest = inputs_of(model, dtype=torch.float64)
    dx, dt, step = torch.randn_like(latents), torch.ones_like(t), 1e-6

    def call(x, t):
        return model(x, t, **rest)

    with torch.no_grad():
        _, slope = torch.func.jvp(call, (latents, t), (dx, dt))
        ahead = call(latents + step * dx, t + step * dt)
        behind = call(latents - step * dx, t - step * dt)
    assert relative_error(slope, (ahead - behind) / (2 * step)) < 1e-5


def test_gradients_reach_every_parameter_and_pass_through_a_frozen_model(model):
    latents, t, rest = inputs_of(model)
    model(latents, t, **rest).square().sum().backward()
    still = {name for name, p in model.named_parameters() if not p.grad.any()}
    if model.config.num_single_layers:
        assert not still
    else:  # nothing asks for the text behind the last block
        last = "transformer_blocks.1"
        parts = ("attn.add_q_proj", "attn.norm_added_q", "attn.to_add_out", "ff_context")
        assert still <= {
            name for name in still for part in parts if name.startswith(f"{last}.{part}.")
        }
    model.requires_grad_(False)
    latents.requires_grad_()
    model(latents, t, **rest).square().sum().backward()
    assert latents.grad.any()


def test_plain_and_fast_attention_agree(model):
    given = inputs_of(model)
    expected = run(model, given)
    for module in model.modules():
        if hasattr(module, "function"):
            module.function = attend_plainly
    assert relative_error(run(model, given), expected) < 1e-5


def test_block_names_are_modules_in_order():
    names = tiny().block_names()
    assert names == (
        *("transformer_blocks.0", "transformer_blocks.1"),
        *("single_transformer_blocks.0", "single_transformer_blocks.1"),
    )
    assert all(tiny().get_submodule(name) for name in names)


class Split(type(WHOLE)):
    """One of two devices; what attention is to see of the other is told beforehand.

    Attributes:
        out: what it has to join.
    """

    def __init__(self, rank, cut, keys_values=None):
        self.rank, self.cut, self.told, self.seen = rank, cut, keys_values, []

    def split(self, x, dim):
        start, end = ((0, self.cut), (self.cut, x.shape[dim]))[self.rank]
        return x.narrow(dim, start, end - start)

    def join(self, x, dim):
        self.out = x
        return x if self.told is None else torch.zeros(B, S + L, x.shape[-1])

    def attend(self, kernel, tokens):
        def attend_told(q, k, v, mask=None):
            self.seen.append((k, v))
            return kernel(q, *(self.told[len(self.seen) - 1] if self.told else (k, v)), mask)

        return attend_told


@pytest.mark.parametrize("cut", [S - 2, S, S + 2])
def test_tokens_may_lie_on_two_devices_wherever_they_are_cut(cut):
    """Each device computes its tokens of both kinds; together they are the whole.

    Keys and values of all tokens come from a run on one device.
    """
    model = tiny()
    latents, t, rest = inputs_of(model)
    whole = model.placement = Split(0, S + L)
    run(model, (latents, t, rest))
    parts = []
    for rank in (0, 1):
        part = model.placement = Split(rank, cut, whole.seen)
        run(model, (latents, t, rest))
        parts.append(part.out)
    assert [x.shape[1] for x in parts] == [cut, S + L - cut]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole.out, rtol=1e-5, atol=1e-5)


def test_adapters_stand_beside_the_attention_of_all_blocks():
    model = tiny()
    chosen = add_lora(model, rank=2)
    per_block = {"transformer_blocks.0": 4, "single_transformer_blocks.0": 3}
    for block, count in per_block.items():
        assert sum(name.startswith(block) for name in chosen) == count
    latents, t, rest = inputs_of(model)
    model(latents, t, **rest).square().mean().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == set(lora_state(model))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"guidance": torch.ones(B)}, "guidance is given and guidance_embedding is False"),
        ({"pooled": torch.ones(B, 3)}, "pooled is given and pooled_dim is None"),
        ({"condition": torch.ones(B, 3, T, H, W)}, "condition is given and condition_channels"),
        ({"text": torch.ones(3, L, 16), "text_mask": None}, "3 captions for 2 samples"),
        ({"latents": [torch.ones(C, T, H, W)] * 3}, "2 captions for 3 samples"),
        ({"t": torch.rand(B, S + 1)}, r"for 2 samples of \(36,\) tokens; give one time a sample"),
        ({"latents": torch.ones(B, C, T, H, 5)}, "do not divide into patches"),
        ({"latents": torch.ones(B, C + 1, T, H, W)}, "this model takes"),
        ({"latents": torch.ones(B, C, 9, H, W)}, "9 tokens along one axis; max_positions allows 8"),
    ],
)
def test_what_does_not_fit_the_config_is_an_error(changes, words):
    model = tiny(max_positions=8)
    latents, t, rest = inputs_of(model)
    with pytest.raises(ValueError, match=words):
        given = {"latents": latents, "t": t} | rest | changes
        if isinstance(given["latents"], list):
            given["t"] = torch.rand(len(given["latents"]))
        model(**given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head_dim": 7}, "head_dim is 7"),
        ({"rope_axes": (4, 4, 6)}, "add up to head_dim, 12"),
        ({"rope_axes": (3, 3, 6)}, "three even numbers"),
        ({"num_layers": -1}, "num_layers is -1; it must be at least 0"),
        ({"pooled_dim": 0}, "pooled_dim is 0; it must be at least 1"),
        ({"patch_size": (1, 2)}, "patch_size is"),
        ({"condition_channels": -1}, "condition_channels is -1"),
    ],
)
def test_a_config_that_cannot_be_is_an_error(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(CONFIG, **changes)
