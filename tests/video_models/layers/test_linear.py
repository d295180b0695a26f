"""The linear layer on oneDNN is PyTorch's own, in value and in every derivative."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from tests.video_models.layers.derivatives import derivatives
from video_models.layers import linear
from video_models.layers.gelu import activate
from video_models.layers.linear import Linear, gelu_of


@pytest.fixture(autouse=True, params=["AVX512", "AVX2"])
def small_products_too(monkeypatch, request):
    """Take the paths of either kind of processor."""
    monkeypatch.setattr(linear, "FEWEST_PRODUCTS", 0)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    return request.param


def pair(bias=True, dtype=torch.float32):
    torch.manual_seed(0)
    ours, theirs = Linear(6, 5, bias=bias, dtype=dtype), nn.Linear(6, 5, bias=bias, dtype=dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, torch.randn(2, 3, 6, dtype=dtype)


KINDS = ("_linear_pointwise", "gelu", "addmm", "sigmoid_")


class Operators(TorchDispatchMode):
    """The names of what runs."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket._qualified_op_name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_pytorch(bias, dtype):
    ours, theirs, x = pair(bias, dtype)
    x = x.transpose(0, 1)
    grads = []
    for layer in (ours, theirs):
        given = x.clone().requires_grad_()
        out = layer(given)
        out.sum().backward()  # an expanded gradient, of one element
        grads.append([out, given.grad, *(p.grad for p in layer.parameters())])
    for mine, expected in zip(*grads, strict=True):
        torch.testing.assert_close(mine, expected)


def test_all_derivatives_are_those_of_pytorch():
    ours, theirs, x = pair()
    inputs = (x, ours.weight.detach(), ours.bias.detach())
    mine, expected = (
        derivatives(
            lambda x, w, b, layer=layer: functional_call(layer, {"weight": w, "bias": b}, (x,)),
            inputs,
        )
        for layer in (ours, theirs)
    )
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_all_derivatives_of_gelu_are_those_of_pytorch():
    x = 3 * torch.randn(7, 5)
    mine, expected = (
        derivatives(gelu, (x,))
        for gelu in (lambda x: activate(x, "tanh"), lambda x: F.gelu(x, approximate="tanh"))
    )
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("in_place", [False, True])
def test_gelu_of_huge_numbers_is_finite(in_place):
    x = torch.tensor([-1e30, -200.0, -0.0, 200.0, 1e30])
    assert activate(x.clone(), "tanh", in_place=in_place).tolist() == x.clamp_min(0).tolist()


def test_parameters_get_gradients_of_what_is_beside_a_forward_mode_derivative():
    ours, theirs, x = pair()
    grads = []
    for layer in (ours, theirs):

        def scaled(s, layer=layer):
            return s * gelu_of(layer, x, "tanh")

        _, change = torch.func.jvp(scaled, (torch.ones(()),), (torch.ones(()),))
        grads.append(torch.autograd.grad(change.sum(), list(layer.parameters())))
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_gelu_is_that_of_pytorch_with_and_without_a_graph(approximate):
    ours, theirs, x = pair()
    expected = F.gelu(theirs(x), approximate=approximate)
    torch.testing.assert_close(gelu_of(ours, x, approximate), expected)
    with torch.no_grad():
        torch.testing.assert_close(gelu_of(ours, x, approximate), expected)


def test_what_runs_with_and_without_a_graph_is_what_is_fast_on_the_processor(small_products_too):
    ours, _, x = pair()
    with_graph, without = {
        "AVX512": (["_linear_pointwise", "gelu"], ["_linear_pointwise"]),
        "AVX2": (["addmm", "sigmoid_"], ["addmm", "sigmoid_"]),
    }[small_products_too]
    for enabled, names in ((True, with_graph), (False, without)):
        with torch.set_grad_enabled(enabled), Operators() as ran:
            ours(x, gelu="tanh")
        kinds = [name.split("::")[1] for name in ran.names]
        assert [kind for kind in kinds if kind in KINDS] == names


def test_gelu_carries_forward_mode_derivatives_without_a_graph():
    ours, theirs, x = pair()
    with torch.no_grad():
        _, mine = torch.func.jvp(lambda x: gelu_of(ours, x, "tanh"), (x,), (x,))
        _, expected = torch.func.jvp(lambda x: F.gelu(theirs(x), approximate="tanh"), (x,), (x,))
    torch.testing.assert_close(mine, expected)


def test_gradients_pass_through_frozen_weights():
    ours, theirs, x = pair()
    for layer in (ours, theirs):
        layer.requires_grad_(False)
    mine, expected = (
        torch.autograd.grad(
            gelu_of(layer, given := x.clone().requires_grad_(), "tanh").sum(), given
        )
        for layer in (ours, theirs)
    )
    torch.testing.assert_close(mine, expected)
    assert ours.weight.grad is None


def test_gelu_stands_behind_whatever_wraps_the_layer():
    ours, theirs, x = pair()
    wrapped = nn.Sequential(ours, nn.Tanh())
    with torch.no_grad():
        expected = F.gelu(theirs(x).tanh(), approximate="tanh")
        torch.testing.assert_close(gelu_of(wrapped, x, "tanh"), expected)


def test_autocast_decides_the_precision():
    ours, _, x = pair()
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
