"""Tempered guidance: neutral settings are guidance itself, and each part does what it says."""

import pytest
import torch

from tests.video_models.diffusion.gaussian import noise
from tests.video_models.diffusion.test_guidance import TwoWorlds, text
from video_models.diffusion.guidance import extrapolated, guided
from video_models.diffusion.guidance_config import GuidanceConfig
from video_models.diffusion.guidance_rules import (
    RULES,
    AdaptiveProjection,
    from_projection,
    open_rule,
    rescaled,
    steered,
)
from video_models.diffusion.paths import convert

T = torch.tensor([0.9, 0.6, 0.5, 0.3, 0.1], dtype=torch.float64)
C, U, X = noise(seed=1), noise(seed=2), noise(seed=3)
NEUTRAL_APG = GuidanceConfig(rule="apg", momentum=0.0, eta=1.0)


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("w", [0.0, 1.0, 2.0, 7.5])
@pytest.mark.parametrize("config", [GuidanceConfig(), NEUTRAL_APG], ids=["cfg", "apg"])
def test_neutral_settings_are_guidance_itself(w, config):
    same(open_rule(config)(C, U, w, X, T), extrapolated(C, U, w, X, T))


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_scale_of_one_is_the_conditional_velocity_under_every_rule(name):
    same(open_rule(GuidanceConfig(rule=name))(C, U, 1.0, X, T), C)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_scale_of_its_own_for_each_sample_is_that_of_each_sample(name):
    scales = torch.tensor([1.0, 2.0, 3.0, 5.0, 7.5], dtype=torch.float64)
    together = open_rule(GuidanceConfig(rule=name))(C, U, scales, X, T)
    for row, w in enumerate(scales.tolist()):
        one = slice(row, row + 1)
        alone = open_rule(GuidanceConfig(rule=name))(C[one], U[one], w, X[one], T[one])
        same(together[one], alone)


def test_cfg_zero_leaves_nothing_of_the_unconditional_velocity_in_the_difference():
    # With v_c - s v_u orthogonal to v_u, the part along v_u does not grow with the scale.
    along = [(from_projection(C, U, w, X, T) * U).sum(dim=1) for w in (1.0, 7.5)]
    torch.testing.assert_close(along[0], along[1], rtol=1e-6, atol=1e-6)
    same(along[0], (C * U).sum(dim=1))


def test_cfg_zero_keeps_the_direction_of_proportional_velocities():
    out = from_projection(2 * U, U, 7.5, X, T)
    torch.testing.assert_close(out, 2 * U, rtol=1e-6, atol=1e-6)


def clean(v):
    return convert(v, X, T, source="v", target="x0")


def test_apg_without_eta_adds_nothing_along_the_clean_sample():
    out = AdaptiveProjection(momentum=0.0, limit=None, eta=0.0)(C, U, 7.5, X, T)
    added = clean(out) - clean(C)
    same((added * clean(C)).sum(dim=1), torch.zeros(5, dtype=torch.float64))
    d = clean(C) - clean(U)
    across = d - (d * clean(C)).sum(1, True) / clean(C).square().sum(1, True) * clean(C)
    same(added, 6.5 * across)


def test_apg_cuts_long_differences_and_leaves_short_ones():
    d = clean(C) - clean(U)
    lengths = d.norm(dim=1)
    limit = lengths.median().item()
    out = AdaptiveProjection(momentum=0.0, limit=limit, eta=1.0)(C, U, 2.0, X, T)
    same((clean(out) - clean(C)).norm(dim=1), lengths.clamp_max(limit))


def test_apg_remembers_the_steps_before_and_a_new_trajectory_does_not():
    config = GuidanceConfig(rule="apg", momentum=-0.5, eta=1.0)
    rule = open_rule(config)
    first, second = rule(C, U, 2.0, X, T), rule(C, U, 2.0, X, T)
    same(first, extrapolated(C, U, 2.0, X, T))
    same(clean(second) - clean(C), 0.5 * (clean(C) - clean(U)))
    same(open_rule(config)(C, U, 2.0, X, T), first)


def test_rescaling_gives_the_deviation_of_the_conditional_velocity_to_a_share():
    v = extrapolated(C, U, 7.5, X, T)
    same(rescaled(v, C, 0.0), v)
    same(rescaled(v, C, 1.0).std(dim=1), C.std(dim=1))
    same(rescaled(v, C, 0.7), 0.7 * rescaled(v, C, 1.0) + 0.3 * v)
    same(open_rule(GuidanceConfig(rescale=0.7))(C, U, 7.5, X, T), rescaled(v, C, 0.7))


def test_outside_the_interval_one_call_is_made_and_above_the_start_none():
    network, x = TwoWorlds(), noise(3)
    captions, empty = text(1.0, 1.0, 1.0), text(0.0)
    config = GuidanceConfig(interval=(0.2, 0.8), zero_above=0.95)
    velocity = steered(network, captions, empty, 3.0, config)
    out = {t: velocity(x, torch.full((3,), t, dtype=torch.float64)) for t in (0.96, 0.9, 0.5, 0.1)}
    assert network.rows == [3, 6, 3]
    assert not out[0.96].any()
    for t, inside in ((0.9, False), (0.5, True), (0.1, False)):
        w, times = 3.0 if inside else 1.0, torch.full((3,), t, dtype=torch.float64)
        same(out[t], guided(TwoWorlds(), captions, empty, w)(x, times))


def test_the_default_config_steers_as_guidance_does():
    x, t = noise(3), torch.full((3,), 0.5, dtype=torch.float64)
    args = (TwoWorlds(), text(1.0, 1.0, 1.0), text(0.0), 3.0)
    assert torch.equal(steered(*args, GuidanceConfig())(x, t), guided(*args)(x, t))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"interval": (0.5, 0.5)}, "interval"),
        ({"rescale": 1.5}, "rescale"),
        ({"zero_above": 0.0}, "zero_above"),
        ({"momentum": 1.0}, "momentum"),
        ({"limit": 0.0}, "limit"),
    ],
)
def test_a_setting_that_cannot_be_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        GuidanceConfig(**wrong)
