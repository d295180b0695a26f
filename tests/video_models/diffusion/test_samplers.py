"""Samplers against closed forms: exact factors, orders of convergence, exact cases."""

import itertools
import math

import pytest
import torch

from tests.video_models.diffusion.gaussian import example, noise
from video_models.diffusion.multistep import sample_dpm2m, sample_unipc
from video_models.diffusion.samplers import SAMPLERS, sample_euler, sample_heun
from video_models.diffusion.timesteps import sampling_grid

ORDERS = {"dpm++2m": 2, "euler": 1, "heun": 2, "unipc": 2}
FIRST_ORDER_ENDS = {"dpm++2m": 1.2, "euler": 0.9, "heun": 1.8, "unipc": 1.2}
"""Least order from pure noise to clean; where the variable of multistep samplers, the log of signal
over noise, is infinite they take first-order steps."""
CALLS = {"ancestral": 8, "consistency": 8, "dpm++2m": 8, "euler": 8, "heun": 15, "unipc": 8}
STOCHASTIC = {"ancestral", "consistency"}


def fresh(index):
    return noise(seed=100 + index)


def error(name, grid):
    """Distance from the exact end of the trajectory."""
    world, x = example(), noise()
    end = SAMPLERS[name](world.velocity, x, grid)
    return (end - world.flow(x, grid[0].item(), grid[-1].item())).norm().item()


def test_every_sampler_has_its_order_and_cost_stated_here():
    assert sorted({*ORDERS, *STOCHASTIC}) == sorted(CALLS) == sorted(SAMPLERS)


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_halving_the_step_divides_the_error_by_two_to_the_order(name):
    coarse, fine = (torch.linspace(0.9, 0.1, n + 1, dtype=torch.float64) for n in (64, 128))
    order = math.log2(error(name, coarse) / error(name, fine))
    assert order == pytest.approx(ORDERS[name], abs=0.15)


def test_unipc_is_of_third_order_before_its_last_step():
    world = example()

    def error_half_way(steps):
        grid, seen = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64), []
        sample_unipc(world.velocity, noise(), grid, callback=lambda *step: seen.append(step[2]))
        return (seen[steps // 2 - 1] - world.flow(noise(), 0.9, 0.5)).norm().item()

    assert math.log2(error_half_way(64) / error_half_way(128)) == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("name", sorted(ORDERS))
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_order_holds_from_pure_noise_to_clean(name, shift):
    coarse, fine = (sampling_grid(n, shift=shift) for n in (128, 256))
    order = math.log2(error(name, coarse) / error(name, fine))
    assert order > FIRST_ORDER_ENDS[name]


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_single_point_is_hit_exactly_by_any_number_of_steps(name, steps, shift):
    world = example(std=0.0)
    end = SAMPLERS[name](world.velocity, noise(), sampling_grid(steps, shift=shift), renoise=fresh)
    torch.testing.assert_close(end, world.mean.expand_as(end), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_sampler_makes_the_calls_that_it_should(name):
    times = []

    def velocity(x, t):
        times.extend(t.unique().tolist())
        return example().velocity(x, t)

    SAMPLERS[name](velocity, noise(), sampling_grid(8), renoise=fresh)
    assert len(times) == CALLS[name]
    assert 0.0 not in times


@pytest.mark.parametrize("steps", [1, 8, 32])
def test_euler_contracts_by_its_closed_form_factor(steps):
    world, x, grid = example(), noise(), sampling_grid(steps)
    factor = math.prod(1 + (r - t) * world.slope(t) for t, r in itertools.pairwise(grid))
    end = sample_euler(world.velocity, x, grid)
    torch.testing.assert_close(end, world.mean + factor * x, rtol=1e-12, atol=1e-12)


def test_euler_gives_the_known_spread():
    world = example(0.6)
    for steps, expected in ((8, 0.50367), (32, 0.57448)):
        end = sample_euler(world.velocity, noise(1), sampling_grid(steps))
        spread = (end - world.mean) / noise(1)
        torch.testing.assert_close(spread, torch.full_like(spread, expected), rtol=0, atol=1e-5)


def test_heun_contracts_by_its_closed_form_factor():
    world, x, grid = example(), noise(), sampling_grid(8)
    factor = torch.ones(3, dtype=torch.float64)
    for t, r in itertools.pairwise(grid):
        h, here = r - t, world.slope(t)
        average = here if r == 0 else (here + world.slope(r) * (1 + h * here)) / 2
        factor = factor * (1 + h * average)
    end = sample_heun(world.velocity, x, grid)
    torch.testing.assert_close(end, world.mean + factor * x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("sampler", "most"), [(sample_dpm2m, 3), (sample_unipc, 1)])
def test_the_first_steps_and_the_last_of_multistep_samplers_are_eulers(sampler, most):
    world, x = example(), noise()
    for steps in range(1, most + 1):
        grid = sampling_grid(steps)
        torch.testing.assert_close(
            sampler(world.velocity, x, grid), sample_euler(world.velocity, x, grid)
        )


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_the_callback_sees_every_step(name):
    seen = []
    end = SAMPLERS[name](
        example().velocity,
        noise(),
        sampling_grid(4),
        callback=lambda *step: seen.append(step),
        renoise=fresh,
    )
    assert [step[:2] for step in seen] == [(0, 0.75), (1, 0.5), (2, 0.25), (3, 0.0)]
    assert torch.equal(seen[-1][2], end)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_samples_keep_shape_and_dtype(name):
    x = torch.randn(2, 4, 3, 2, 2)
    end = SAMPLERS[name](
        lambda x, t: -x, x, sampling_grid(4, shift=3.0), renoise=lambda index: torch.randn(x.shape)
    )
    assert end.shape == x.shape
    assert end.dtype == x.dtype
