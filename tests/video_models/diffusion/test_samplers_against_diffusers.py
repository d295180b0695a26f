"""Euler, DPM-Solver++ and UniPC take the steps of diffusers' schedulers on the same network."""

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from tests.video_models.diffusion.gaussian import example
from tests.video_models.distillation.mutation import mutated
from video_models.diffusion import multistep
from video_models.diffusion.samplers import SAMPLERS

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
SCHEDULERS = {
    "dpm++2m": lambda: DPMSolverMultistepScheduler(
        **FLOW, final_sigmas_type="zero", euler_at_final=True
    ),
    "euler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    "unipc": lambda: UniPCMultistepScheduler(**FLOW),
}

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"  # diffusers' own
)


def velocity(x, t):
    """A network that is no straight line in x, so that orders and weights show."""
    return example().velocity(x, t) + 0.3 * torch.sin(3 * x) * t[:, None]


def theirs(name, steps, x):
    """Return the grid of a scheduler and the sample after each of its steps."""
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(steps)
    grid = scheduler.sigmas.double()
    states = []
    for time, sigma in zip(scheduler.timesteps, grid, strict=False):
        x = scheduler.step(velocity(x, sigma.expand(len(x))), time, x).prev_sample
        states.append(x)
    return grid, states


def furthest(name, steps, sampler=None):
    """Return the largest difference from diffusers after any step."""
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    grid, expected = theirs(name, steps, x)
    ours = []
    (sampler or SAMPLERS[name])(velocity, x, grid, callback=lambda i, r, state: ours.append(state))
    assert len(ours) == len(expected) == steps
    return max((a - b).abs().max().item() for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
@pytest.mark.parametrize("steps", [4, 10, 25])
def test_every_step_is_the_one_of_diffusers(name, steps):
    assert furthest(name, steps) < 1e-5


MUTATIONS = {
    "the sign of h": ("b = math.expm1(-h)", "b = math.expm1(h)"),
    "no corrector": ("x = correct(last, x0, t)", "x = x"),
    "the corrector sees the old network call": (
        "correct(last, x0, t)",
        "correct(last, last.x0, t)",
    ),
    "the predictor's slope counted whole": ("x0 + slope / 2", "x0 + slope"),
    "the last step of second order": ("before is not None and index < count - 1", "before"),
    "the older difference forgotten": ("target + old * step.slope", "target"),
}


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_broken_unipc_is_noticed(name):
    code = mutated(multistep, *MUTATIONS[name])
    try:
        assert furthest("unipc", 10, code.sample_unipc) > 1e-4
    except (ValueError, ZeroDivisionError, RuntimeError):  # blown up: noticed as well
        return
