"""Adapters change nothing at first, learn alone, and are merged into what they stand beside."""

import pytest
import torch

from tests.video_models.transformer.tiny import inputs_of, relative_error, tiny
from video_models.layers.attention import attend_plainly
from video_models.transformer.lora import (
    LoraLinear,
    add_lora,
    lora_layers,
    lora_state,
    merge_lora,
    merged,
)


def run(model, given):
    latents, t, rest = given
    with torch.no_grad():
        return model(latents, t, **rest)


def adapted(*, targets=("to_q", "to_v", "ffn.net.0.proj", "time_proj", "proj_out"), **knobs):
    """Return a model with adapters off zero, and what it computed without them."""
    model = tiny()
    given = inputs_of(model)
    before = run(model, given)
    add_lora(model, **({"rank": 3, "alpha": 6.0, "targets": targets} | knobs))
    torch.manual_seed(2)
    for _, layer in lora_layers(model):
        torch.nn.init.normal_(layer.lora_B.weight, std=0.1)
    return model, given, before


def test_new_adapters_change_nothing_and_train_alone():
    model = tiny()
    given, names = inputs_of(model), set(model.state_dict())
    before = run(model, given)
    chosen = add_lora(model, rank=2)
    assert len(chosen) == 2 * 2 * 4  # blocks, attentions, layers of each
    assert torch.equal(run(model, given), before)
    assert names < set(model.state_dict())
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(
        lora_state(model)
    )
    assert set(lora_state(model)) == set(model.state_dict()) - names


def test_an_adapter_adds_its_product_scaled_by_alpha_over_rank():
    torch.manual_seed(0)
    layer = LoraLinear(torch.nn.Linear(5, 7), rank=2, alpha=3.0)
    torch.nn.init.normal_(layer.lora_B.weight)
    x = torch.randn(4, 5)
    change = layer.lora_B.weight @ layer.lora_A.weight * 1.5
    expected = x @ (layer.weight + change).T + layer.bias
    torch.testing.assert_close(layer(x), expected)


def test_a_step_changes_the_adapters_and_nothing_else():
    model, (latents, t, rest), _ = adapted()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(latents, t, **rest).square().mean().backward()
    optimizer.step()
    changed = {name for name, p in model.state_dict().items() if not torch.equal(p, before[name])}
    assert changed == set(lora_state(model))


def test_merged_weights_compute_the_same_and_what_was_before_comes_back():
    model, given, before = adapted()
    state, out = {k: v.clone() for k, v in model.state_dict().items()}, run(model, given)
    assert relative_error(out, before) > 1e-2
    with merged(model):
        assert not any(lora_layers(model))
        assert relative_error(run(model, given), out) < 1e-5
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(run(model, given), out)


def test_merging_for_good_leaves_a_plain_model():
    model, given, _ = adapted()
    plain, out = tiny(), run(model, given)
    merge_lora(model)
    assert [type(part) for part in model.modules()] == [type(part) for part in plain.modules()]
    assert set(model.state_dict()) == set(plain.state_dict())
    assert relative_error(run(model, given), out) < 1e-5


def test_forward_mode_derivatives_pass_through_adapters():
    model, (latents, t, rest), _ = adapted()
    for part in model.modules():
        if hasattr(part, "function"):
            part.function = attend_plainly
    model, latents, t = model.double(), latents.double(), t.double()
    rest = {"text": rest["text"].double()}
    direction, step = torch.randn_like(latents), 1e-6

    def call(x):
        return model(x, t, **rest)

    _, slope = torch.func.jvp(call, (latents,), (direction,))
    measured = (call(latents + step * direction) - call(latents - step * direction)) / (2 * step)
    assert relative_error(slope, measured) < 1e-6


def test_what_computes_in_float32_does_so_with_an_adapter():
    model, given, _ = adapted()
    latents, t, rest = given
    expected = run(model, given)
    model.to(torch.bfloat16)
    with torch.no_grad():
        out = model(latents.bfloat16(), t, text=rest["text"].bfloat16())
    assert relative_error(out.float(), expected) < 0.05


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"targets": ("to_x",)}, "'to_x', which ends the name of no linear layer.*to_q"),
        ({"targets": ("o_q",)}, "'o_q', which ends"),
        ({"rank": 0}, "rank is 0"),
    ],
)
def test_what_cannot_be_adapted_is_an_error(knobs, words):
    with pytest.raises(ValueError, match=words):
        add_lora(tiny(), **({"rank": 2} | knobs))


def test_adapters_do_not_stand_beside_adapters():
    model, _, _ = adapted()
    with pytest.raises(ValueError, match="has adapters already"):
        add_lora(model, rank=2)
