"""What distillation differentiates: forward mode, twice, through a frozen model, and its tokens."""

import pytest
import torch

from tests.video_models.transformer.tiny import VARIANTS, B, S, inputs_of, relative_error, tiny

H = 1e-6
"""Step of the finite differences, in float64."""


def double(variant):
    model = tiny(plainly=True, **VARIANTS[variant]).double()
    latents, t, rest = inputs_of(model, dtype=torch.float64)
    return model, latents, t, rest


def spread(direction):
    """Return a direction of unit length."""
    return direction / direction.norm()


# PyTorch scripts its own decompositions on the first forward-mode derivative.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_mode_derivatives_are_those_of_finite_differences(variant):
    model, latents, t, rest = double(variant)
    direction, speed = torch.randn_like(latents), torch.full_like(t, 0.01)
    model.requires_grad_(False)
    value, tangent = torch.func.jvp(
        lambda x, time: model(x, time, **rest), (latents, t), (direction, speed)
    )
    ahead, behind = (model(latents + h * direction, t + h * speed, **rest) for h in (H, -H))
    assert relative_error(value, model(latents, t, **rest)) < 1e-12
    assert relative_error((ahead - behind) / (2 * H), tangent) < 1e-6


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_packed_samples_have_forward_mode_derivatives():
    model, latents, t, rest = double("windowed")
    model.requires_grad_(False)
    samples, slopes = list(latents), torch.randn_like(latents)
    _, tangents = torch.func.jvp(
        lambda x, time: model([x[0], x[1]], time, **rest),
        (latents, t),
        (slopes, torch.full_like(t, 0.01)),
    )
    ahead, behind = (
        model([x + h * d for x, d in zip(samples, slopes, strict=True)], t + 0.01 * h, **rest)
        for h in (H, -H)
    )
    for a, b, tangent in zip(ahead, behind, tangents, strict=True):
        assert relative_error((a - b) / (2 * H), tangent) < 1e-6


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_a_prepared_text_keeps_forward_mode():
    model, latents, t, rest = double("plain")
    prepared = model.prepare(rest["text"])
    directions = (torch.randn_like(latents), torch.ones_like(t))
    plain = torch.func.jvp(lambda x, time: model(x, time, **rest), (latents, t), directions)
    fast = torch.func.jvp(lambda x, time: model(x, time, prepared), (latents, t), directions)
    torch.testing.assert_close(fast, plain, rtol=0, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_flow_through_a_frozen_model(variant):
    model, latents, t, rest = double(variant)
    model.requires_grad_(False)
    latents.requires_grad_()
    direction = spread(torch.randn_like(latents))
    (gradient,) = torch.autograd.grad(model(latents, t, **rest).square().sum(), latents)
    ahead, behind = (
        model(latents.detach() + h * direction, t, **rest).square().sum() for h in (H, -H)
    )
    torch.testing.assert_close((gradient * direction).sum(), (ahead - behind) / (2 * H))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_second_derivatives_are_those_of_finite_differences(variant):
    model, latents, t, rest = double(variant)
    direction = spread(torch.randn_like(latents))

    def slope(x):
        """Return the derivative of the energy of the output along the direction."""
        x = x.detach().requires_grad_()
        energy = model(x, t, **rest).square().sum()
        (gradient,) = torch.autograd.grad(energy, x, create_graph=True)
        return x, (gradient * direction).sum()

    x, along = slope(latents)
    (curvature,) = torch.autograd.grad(along, x)
    ahead, behind = (slope(latents + h * direction)[1] for h in (H, -H))
    torch.testing.assert_close(
        (curvature * direction).sum(), (ahead - behind) / (2 * H), rtol=1e-5, atol=1e-7
    )


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_of_forward_mode_derivatives_are_those_of_finite_differences(variant):
    model, latents, t, rest = double(variant)
    model.requires_grad_(False)
    direction, probe = (spread(torch.randn_like(latents)) for _ in range(2))

    def tangent(x):
        """Return the sum of squares of how the output moves along the direction."""
        _, moved = torch.func.jvp(lambda y: model(y, t, **rest), (x,), (direction,))
        return moved.square().sum()

    x = latents.requires_grad_()
    (gradient,) = torch.autograd.grad(tangent(x), x)
    ahead, behind = (tangent(latents.detach() + h * probe) for h in (1e-5, -1e-5))
    torch.testing.assert_close(
        (gradient * probe).sum(), (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-8
    )


def test_the_tokens_after_chosen_blocks_are_returned():
    model = tiny(num_layers=3)
    latents, t, rest = inputs_of(model)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        velocity, tokens = model(latents, t, **rest, features=(0, 2))
        expected = model(latents, t, **rest)
    assert set(tokens) == {0, 2}
    assert tokens[0].shape == (B, S, model.config.dim)
    torch.testing.assert_close(tokens[0], seen[0], rtol=0, atol=0)
    torch.testing.assert_close(tokens[2], seen[2], rtol=0, atol=0)
    torch.testing.assert_close(velocity, expected, rtol=0, atol=0)


def test_gradients_flow_from_the_tokens_of_a_frozen_model():
    model = tiny().requires_grad_(False)
    latents, t, rest = inputs_of(model)
    latents.requires_grad_()
    model(latents, t, **rest, features=(0,))[1][0].square().sum().backward()
    assert latents.grad.abs().amax() > 0


def test_tokens_of_a_block_that_is_not_there_are_an_error():
    model = tiny()
    latents, t, rest = inputs_of(model)
    with pytest.raises(ValueError, match=r"features name blocks \[2, 7\]; the last is 1"):
        model(latents, t, **rest, features=(1, 2, 7))
