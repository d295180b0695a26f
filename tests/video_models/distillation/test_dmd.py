"""DMD against Gaussians: its direction in closed form, where it rests, and what it trains on."""

import torch

from tests.video_models.diffusion.gaussian import Gaussian, example, noise
from video_models.diffusion.stochastic import sample_consistency
from video_models.diffusion.timesteps import sampling_grid
from video_models.distillation import dmd

REAL = example()
FAKE = Gaussian(REAL.mean + 0.5, REAL.std * 0.8)
X, E = noise(seed=3), noise(seed=4)
T = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)


def gradient(fake=FAKE.velocity, teacher=REAL.velocity):
    """The loss's gradient at clean samples, times the entries of a sample."""
    x = X.clone().requires_grad_()
    direction = dmd.matching(fake, teacher, x, E, T).direction
    (found,) = torch.autograd.grad(dmd.dmd_loss(x, direction).sum(), x)
    return 3 * found


def error():
    """Distance of the gradient from the closed form."""
    x_t = (1 - T)[:, None] * X + T[:, None] * E
    ours, theirs = FAKE.denoised(x_t, T), REAL.denoised(x_t, T)
    expected = (ours - theirs) / (X - theirs).abs().mean(1, keepdim=True)
    return (gradient() - expected).abs().max().item()


def test_the_gradient_is_the_difference_of_the_denoisers():
    assert error() < 1e-12


def test_both_denoisers_distances_from_the_samples_are_told():
    x_t = (1 - T)[:, None] * X + T[:, None] * E
    found = dmd.matching(FAKE.velocity, REAL.velocity, X, E, T)
    for told, world in ((found.to_fake, FAKE), (found.to_teacher, REAL)):
        torch.testing.assert_close(told, (X - world.denoised(x_t, T)).abs().mean(1))


def test_a_student_with_the_teachers_distribution_rests():
    assert gradient(fake=REAL.velocity).abs().max() < 1e-12


def test_a_step_against_the_gradient_brings_the_mean_nearer():
    step = -gradient()
    # The student's mean is above the teacher's everywhere.
    assert (step.mean(dim=0) < 0).all()


def test_entries_that_are_not_finite_do_not_move_the_student():
    def broken(x, t):
        v = FAKE.velocity(x, t)
        v[0, 1] = torch.nan
        return v

    moved = gradient(fake=broken)
    assert moved[0, 1] == 0
    assert moved[0, 0] != 0


def test_neither_network_gets_a_gradient():
    weights = torch.ones(2, dtype=torch.float64, requires_grad=True)
    x = X.clone().requires_grad_()
    found = dmd.matching(lambda x, t: weights[0] * x, lambda x, t: weights[1] * x * x, x, E, T)
    dmd.dmd_loss(x, found.direction).sum().backward()
    assert weights.grad is None
    assert x.grad.any()


def test_the_student_is_trained_on_its_own_states():
    grid = sampling_grid(4, shift=3.0)

    def fresh(index):
        return noise(seed=50 + index)

    states = []
    sample_consistency(
        REAL.velocity, E, grid, renoise=fresh, callback=lambda *step: states.append(step[2])
    )
    assert torch.equal(dmd.simulated(REAL.velocity, E, grid, 0, fresh), E)
    for index in (1, 2, 3):
        assert torch.equal(dmd.simulated(REAL.velocity, E, grid, index, fresh), states[index - 1])


def test_earlier_steps_carry_no_gradient():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    state = dmd.simulated(
        lambda x, t: weight * x, E, sampling_grid(4), 2, lambda index: noise(seed=index)
    )
    assert not state.requires_grad
