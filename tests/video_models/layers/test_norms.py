"""Norms are the formulas, in value and in every derivative."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from tests.video_models.layers.derivatives import derivatives
from video_models.layers.modulation import modulate
from video_models.layers.norms import ModulatedLayerNorm, WideLayerNorm, WideRMSNorm
from video_models.layers.rms_norm import rms_norm

B, S, D, EPS = 2, 3, 6, 1e-3


def formula(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt()


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(B, S, D, dtype=torch.float64)


def test_the_root_mean_square_norm_has_all_derivatives_of_pytorchs(x):
    weight = torch.randn(D, dtype=torch.float64)
    mine = derivatives(lambda x, w: rms_norm(x, w, EPS), (x, weight))
    expected = derivatives(lambda x, w: F.rms_norm(x, (D,), w, EPS), (x, weight))
    torch.testing.assert_close(mine, expected)


def test_the_root_mean_square_norm_of_zeros_is_smooth():
    x = torch.zeros(1, D, dtype=torch.float64, requires_grad=True)
    weight = torch.ones(D, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(rms_norm(x, weight, EPS).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, EPS**-0.5))


def test_half_precision_is_normalised_in_float32(x):
    norm = WideRMSNorm(D, eps=EPS)
    half = (x * 100).bfloat16()
    assert torch.equal(norm(half), norm(half.float()).bfloat16())
    assert norm(half).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(1, 1, D), (B, 1, D), (B, S, D), (1, S, D)])
def test_a_modulated_layer_norm_is_the_norm_and_then_the_modulation(x, shape):
    norm = ModulatedLayerNorm(EPS)
    shift, scale = torch.randn(2, *shape, dtype=torch.float64)
    mine = derivatives(norm, (x, shift, scale))
    expected = derivatives(lambda x, a, b: modulate(formula(x), a, b), (x, shift, scale))
    torch.testing.assert_close(norm(x, shift, scale), modulate(formula(x), shift, scale))
    torch.testing.assert_close(mine, expected)


def test_a_learned_layer_norm_has_the_derivatives_of_the_formula(x):
    weight, bias = torch.randn(2, D, dtype=torch.float64)
    norm = WideLayerNorm(D, EPS, dtype=torch.float64)
    mine = derivatives(
        lambda x, w, b: functional_call(norm, {"weight": w, "bias": b}, (x,)), (x, weight, bias)
    )
    expected = derivatives(lambda x, w, b: formula(x) * w + b, (x, weight, bias))
    torch.testing.assert_close(mine, expected)
