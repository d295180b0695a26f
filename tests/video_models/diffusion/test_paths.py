"""Every conversion between predictions and paths, against closed forms and round trips."""

import math

import pytest
import torch

from tests.video_models.diffusion.gaussian import example, noise
from video_models.diffusion.paths import (
    PATHS,
    RECTIFIED_FLOW,
    add_noise,
    change_path,
    convert,
    ends,
    trigflow,
    velocity,
)

KINDS = ("x0", "eps", "v", "score")
ALL_PATHS = {name: make() for name, make in PATHS.items()} | {"trigflow_half": trigflow(0.5)}


@pytest.fixture(params=sorted(ALL_PATHS))
def path(request):
    return ALL_PATHS[request.param]


def triple(path, seed=0):
    """A clean sample, its noise, inner times, and the point between."""
    torch.manual_seed(seed)
    x0, e = torch.randn(2, 6, 3, 2, dtype=torch.float64)
    t = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    return x0, e, t, add_noise(x0, e, t, path)


def prediction(kind, x0, e, t, path):
    wide = t[:, None, None]
    return {
        "x0": x0,
        "eps": e,
        "v": velocity(x0, e, t, path),
        "score": -e / path.s(wide),
    }[kind]


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_every_prediction_converts_to_every_other(path, source, target):
    x0, e, t, x_t = triple(path)
    given, expected = (prediction(kind, x0, e, t, path) for kind in (source, target))
    converted = convert(given, x_t, t, source=source, target=target, path=path)
    torch.testing.assert_close(converted, expected, rtol=1e-12, atol=1e-12)


def test_the_velocity_is_the_derivative_of_the_path(path):
    x0, e, t, _ = triple(path)
    h = 1e-6
    slope = (add_noise(x0, e, t + h, path) - add_noise(x0, e, t - h, path)) / (2 * h)
    factor = math.pi / 2 if path.name == "variance_preserving" else 1.0
    torch.testing.assert_close(slope, factor * velocity(x0, e, t, path), rtol=1e-8, atol=1e-8)


def test_rectified_flow_is_what_the_project_says_it_is():
    x0, e, t, x_t = triple(RECTIFIED_FLOW)
    wide = t[:, None, None]
    torch.testing.assert_close(x_t, (1 - wide) * x0 + wide * e)
    torch.testing.assert_close(velocity(x0, e, t), e - x0)


def test_both_ends_of_the_rectified_flow_are_reached_without_division_by_zero():
    x0, e, _, _ = triple(RECTIFIED_FLOW)
    for time in (0.0, 1.0):
        t = torch.full((len(x0),), time, dtype=torch.float64)
        clean, noisy = ends(e - x0, add_noise(x0, e, t), t, kind="v")
        torch.testing.assert_close(clean, x0)
        torch.testing.assert_close(noisy, e)


def test_velocity_and_score_are_those_of_a_gaussian():
    world, x = example(), noise()
    t = torch.linspace(0.05, 0.95, len(x), dtype=torch.float64)
    v = world.velocity(x, t)
    as_score = convert(v, x, t, source="v", target="score")
    torch.testing.assert_close(as_score, world.score(x, t), rtol=1e-12, atol=1e-12)
    denoised = convert(v, x, t, source="v", target="x0")
    torch.testing.assert_close(denoised, world.denoised(x, t), rtol=1e-12, atol=1e-12)
    back = convert(as_score, x, t, source="score", target="v")
    torch.testing.assert_close(back, v, rtol=1e-12, atol=1e-12)


def test_a_change_of_path_keeps_the_mixture_but_for_a_factor(path):
    x0, e, t, x_t = triple(RECTIFIED_FLOW)
    moved, other = change_path(x_t, t, source=RECTIFIED_FLOW, target=path)
    torch.testing.assert_close(moved, add_noise(x0, e, other, path), rtol=1e-12, atol=1e-12)
    back, time = change_path(moved, other, source=path, target=RECTIFIED_FLOW)
    torch.testing.assert_close(back, x_t, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(time, t, rtol=1e-12, atol=1e-12)


def test_pure_noise_changes_path_too():
    x = noise()
    t = torch.ones(len(x), dtype=torch.float64)
    moved, other = change_path(x, t, source=RECTIFIED_FLOW, target=trigflow())
    torch.testing.assert_close(moved, x)
    torch.testing.assert_close(other, t * math.pi / 2)


def test_a_flow_network_behind_trigflow_gives_trigflows_velocity():
    world, x = example(), noise()
    angle = torch.linspace(0.1, 1.4, len(x), dtype=torch.float64)
    trig = trigflow()
    x_rf, t = change_path(x, angle, source=trig, target=RECTIFIED_FLOW)
    x0, e = ends(world.velocity(x_rf, t), x_rf, t, kind="v")
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    closed = ((cos - sin) * x + world.velocity(x_rf, t)) / (cos + sin)
    torch.testing.assert_close(velocity(x0, e, angle, trig), closed, rtol=1e-12, atol=1e-12)
