"""sCM against closed forms: the map to angles, the tangent, and the way it descends."""

import pytest
import torch

from tests.video_models.diffusion.gaussian import noise
from tests.video_models.distillation.angles import WORLD, Angles, network
from video_models.diffusion.paths import change_path, convert, rectified_flow, trigflow
from video_models.distillation import scm

H = torch.tensor([0.1, 0.4, 0.8, 1.2, 1.5], dtype=torch.float64)
X = noise(seed=7)


def map_error(sigma_data):
    """Distance of the mapped exact velocity from the exact dx/dh."""
    angles = Angles(WORLD, sigma_data)
    mapped = scm.on_angles(WORLD.velocity, sigma_data)(X, H)
    return (mapped - angles.derivative(X, H)).abs().max().item()


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_a_velocity_on_the_rectified_flow_is_the_derivative_on_angles(sigma_data):
    assert map_error(sigma_data) < 1e-13


def test_the_map_is_that_of_the_paths():
    path = trigflow(0.5)
    x, t = change_path(X, H, source=path, target=rectified_flow())
    v = network(x, t)
    clean = convert(v, x, t, source="v", target="x0")
    noise_ = convert(v, x, t, source="v", target="eps")
    expected = path.p(H)[:, None] * clean + path.q(H)[:, None] * noise_
    torch.testing.assert_close(scm.on_angles(network, 0.5)(X, H), expected, rtol=1e-12, atol=1e-12)


def test_the_map_holds_at_both_ends():
    ends = torch.tensor([0.0, torch.pi / 2], dtype=torch.float64)
    out = scm.on_angles(WORLD.velocity)(X[:2], ends)
    torch.testing.assert_close(out, Angles(WORLD, 1.0).derivative(X[:2], ends))


def fixed_point_error(sigma_data=1.0, **options):
    """The tangent of the exact consistency function, which is to vanish."""
    angles = Angles(WORLD, sigma_data)
    g = scm.tangent(angles.exact_student, angles.derivative, X, H, **options)
    return g.abs().max().item()


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_the_exact_consistency_function_has_no_tangent(sigma_data):
    assert fixed_point_error(sigma_data=sigma_data) < 1e-12


def tangent_error(sigma_data=0.5, **options):
    """Distance of the tangent of some network from cos h df/dh, by central differences."""
    angles, step = Angles(WORLD, sigma_data), 1e-5
    dx = angles.derivative(X, H)
    ahead, behind = (scm.consistency_function(network, X + d * dx, H + d) for d in (step, -step))
    expected = torch.cos(H)[:, None] * (ahead - behind) / (2 * step)
    g = scm.tangent(network, angles.derivative, X, H, **options)
    return (g - expected).abs().max().item()


def test_the_tangent_is_the_derivative_of_the_consistency_function():
    assert tangent_error() < 1e-8


def test_a_difference_in_place_of_forward_mode_comes_near():
    assert tangent_error(step=1e-6) < 1e-4
    assert fixed_point_error(step=1e-6) < 1e-4


def test_the_warm_up_begins_with_the_teachers_pull_alone():
    angles = Angles(WORLD, 1.0)
    g = scm.tangent(network, angles.derivative, X, H, warmup=0.0)
    pull = -(torch.cos(H)[:, None] ** 2) * (network(X, H) - angles.derivative(X, H))
    torch.testing.assert_close(g, pull)


def test_a_normalised_tangent_is_at_most_one_long_and_keeps_its_direction():
    g = X * torch.tensor([1e-6, 1e-2, 1.0, 1e2, 1e6], dtype=torch.float64)[:, None]
    unit = scm.normalised(g)
    assert unit.square().mean(dim=1).sqrt().max() < 1
    torch.testing.assert_close(
        torch.nn.functional.normalize(unit, dim=1), torch.nn.functional.normalize(g, dim=1)
    )
    torch.testing.assert_close(unit[0], g[0] / 0.1, rtol=1e-4, atol=0)


def descent(**options):
    """How far a small step down the loss brings a student near the exact one, relative."""
    angles = Angles(WORLD, 1.0)
    off = torch.full((3,), 0.1, dtype=torch.float64, requires_grad=True)

    def student(x, h):
        return angles.exact_student(x, h) + off

    loss = scm.scm_loss(student, angles.derivative, X, H, **options).sum()
    (gradient,) = torch.autograd.grad(loss, off)
    return (gradient * off).sum().item()


@pytest.mark.parametrize("constant", [0.1, None])
def test_a_step_down_the_loss_goes_towards_the_exact_student(constant):
    assert descent(constant=constant) > 1e-4


def test_the_gradient_is_the_tangents_times_the_prior_weight():
    angles = Angles(WORLD, 0.5)
    off = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    loss = scm.scm_loss(
        lambda x, h: network(x, h) + off, angles.derivative, X, H, constant=None, sigma_data=0.5
    )
    (gradient,) = torch.autograd.grad(loss.sum(), off)
    g = scm.tangent(network, angles.derivative, X, H)
    expected = -2 / 3 * g / (0.5 * torch.tan(H))[:, None] / 0.5
    torch.testing.assert_close(gradient, expected)


def test_the_loss_is_that_of_the_normalised_tangent():
    angles = Angles(WORLD, 1.0)
    g = scm.tangent(network, angles.derivative, X, H)
    unit = g / (g.square().mean(dim=1, keepdim=True).sqrt() + 0.1)
    loss = scm.scm_loss(network, angles.derivative, X, H)
    torch.testing.assert_close(loss, unit.square().mean(dim=1) / torch.tan(H))


def adaptive_optimum():
    """The gradient of the adaptive weight at u = ln(weighted loss), where it is to vanish."""
    angles = Angles(WORLD, 1.0)
    plain = scm.scm_loss(network, angles.derivative, X, H)
    u = plain.detach().log().requires_grad_()
    loss = scm.scm_loss(network, angles.derivative, X, H, log_variance=u)
    (gradient,) = torch.autograd.grad(loss.sum(), u)
    return gradient.abs().max().item()


def test_the_adaptive_weight_rests_at_the_log_of_the_loss():
    assert adaptive_optimum() < 1e-12


def test_angles_are_drawn_from_the_log_normal_of_sigma():
    angles = scm.draw_angles(
        20_000, mean=-0.4, std=1.2, sigma_data=0.5, generator=torch.Generator().manual_seed(0)
    )
    tau = (0.5 * torch.tan(angles)).log()
    assert tau.mean().item() == pytest.approx(-0.4, abs=0.03)
    assert tau.std().item() == pytest.approx(1.2, abs=0.03)


def test_noise_on_angles_has_the_deviation_of_the_data():
    x = scm.noised_on_angles(
        torch.ones(2, 3), torch.ones(2, 3), torch.tensor([0.0, torch.pi / 2]), 0.5
    )
    torch.testing.assert_close(x, torch.tensor([[1.0] * 3, [0.5] * 3]))


def test_only_the_student_gets_a_gradient_and_only_through_its_last_call():
    weights = torch.ones(2, dtype=torch.float64, requires_grad=True)
    scm.scm_loss(
        lambda x, h: weights[0] * network(x, h), lambda x, h: weights[1] * x, X, H
    ).sum().backward()
    assert weights.grad[0] != 0
    assert weights.grad[1] == 0
