"""Consistency distillation: the exact student of N intervals is its teacher in N steps."""

import itertools

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss

from tests.video_models.diffusion.gaussian import example, noise
from tests.video_models.diffusion.mixture import Mixture, two_hills
from video_models.diffusion.samplers import sample_euler, sample_heun
from video_models.diffusion.timesteps import sampling_grid
from video_models.distillation import consistency

WORLD = two_hills()
SAMPLERS = {"euler": sample_euler, "heun": sample_heun}


def exact_student(teacher, grid, *, phases, solver):
    """Return the student without loss, whose jump at each time of the grid is the target,
    given itself at later times."""

    def velocity(x, t):
        if not t.any():  # no jump is left: whatever it says counts nothing
            return torch.full_like(x, 1e3)
        index = int((grid[:-1] == t[0]).nonzero()[0])
        hop = consistency.hop(torch.full((len(x),), index), grid, phases=phases)
        goal = consistency.consistency_target(velocity, teacher, x, hop, solver=solver)
        return (goal - x) / (hop.edge - hop.start)[:, None]

    return velocity


def gap(*, phases=1, solver="euler", steps=8, shift=3.0):
    """Distance of the exact student, sampled edge to edge, from the teacher at every step."""
    grid, x = sampling_grid(steps, shift=shift), noise()
    student = exact_student(WORLD.velocity, grid, phases=phases, solver=solver)
    few = sample_euler(student, x, grid[:: steps // phases])
    return (few - SAMPLERS[solver](WORLD.velocity, x, grid)).abs().max().item()


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("phases", [1, 2, 4])
def test_the_fixed_point_is_the_teacher_at_all_steps_of_the_solver(phases, solver):
    assert gap(phases=phases, solver=solver) < 1e-12


def test_the_fixed_point_has_no_loss_and_another_student_has():
    grid, x = sampling_grid(4), noise(4)
    student = exact_student(WORLD.velocity, grid, phases=1, solver="euler")
    for index in range(4):
        hop = consistency.hop(torch.full((4,), index), grid)
        loss = consistency.consistency_loss(student, student, WORLD.velocity, x, hop)
        assert loss.max() < 1e-24
        off = consistency.consistency_loss(
            lambda x, t: student(x, t) + 1, student, WORLD.velocity, x, hop
        )
        torch.testing.assert_close(off, hop.start.double() ** 2)


def test_a_jump_from_the_edge_stays_where_it_is_to_the_last_bit():
    x, edge = noise(), torch.tensor([0.0, 0.25, 0.5, 0.5, 1.0], dtype=torch.float64)
    assert torch.equal(consistency.jump(WORLD.velocity, x, edge, edge), x)


def test_an_untrained_student_jumps_to_its_teachers_prediction():
    x, t = noise(), torch.linspace(0.2, 1, 5, dtype=torch.float64)
    world = example()
    ahead = consistency.jump(world.velocity, x, t, torch.zeros_like(t))
    torch.testing.assert_close(ahead, world.denoised(x, t), rtol=1e-12, atol=1e-12)


def test_hops_lie_in_their_phase():
    grid = sampling_grid(8, shift=3.0)
    hop = consistency.hop(torch.arange(8), grid, phases=2)
    assert torch.equal(hop.start, grid[:-1])
    assert torch.equal(hop.end, grid[1:])
    assert torch.equal(hop.edge, grid[[4] * 4 + [8] * 4])
    with pytest.raises(ValueError, match="do not divide into 3 phases"):
        consistency.hop(torch.arange(8), grid, phases=3)


def test_the_target_gets_no_gradient_and_the_student_does():
    weights = torch.ones(3, dtype=torch.float64, requires_grad=True)
    hop = consistency.hop(torch.arange(4), sampling_grid(4))
    networks = [lambda x, t, w=w: w * x for w in weights]
    consistency.consistency_loss(*networks, noise(4), hop).sum().backward()
    assert weights.grad[0] != 0
    assert not weights.grad[1:].any()


def test_training_without_a_teacher_has_another_target_where_data_is_no_gaussian():
    x = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)[:, None]
    t, r = 0.9, 0.6
    z, w = (torch.from_numpy(v) for v in hermegauss(60))

    def difference(world):
        """Of E[target] over the lines of noise through x, by quadrature, from the distilled one."""
        hop = consistency.Hop(
            start=torch.full((7,), t), end=torch.full((7,), r), edge=torch.zeros(7)
        )
        total, mass = 0, 0
        for weight, mean, std in zip(world.weights, world.means, world.stds, strict=True):
            clean = (mean + std * z).expand(7, -1)
            noise = (x - (1 - t) * clean) / t
            likely = torch.exp(-0.5 * noise**2) * w * weight
            lines = consistency.straight(clean, noise)
            goal = consistency.consistency_target(world.velocity, lines, x.expand(7, 60), hop)
            total, mass = total + (likely * goal).sum(1), mass + likely.sum(1)
        distilled = consistency.consistency_target(world.velocity, world.velocity, x, hop)
        return (total / mass - distilled[:, 0]).abs().max().item()

    gaussian = Mixture(*(torch.tensor([v], dtype=torch.float64) for v in (1.0, 0.7, 0.6)))
    assert difference(gaussian) < 1e-6
    assert difference(WORLD) > 0.02


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_states_of_a_trajectory_are_those_of_the_sampler(solver):
    grid, x = sampling_grid(6, shift=3.0), noise()
    states = consistency.trajectory(WORLD.velocity, x, grid, solver=solver)
    seen = [x]
    SAMPLERS[solver](WORLD.velocity, x, grid, callback=lambda *step: seen.append(step[2]))
    torch.testing.assert_close(states, torch.stack(seen), rtol=0, atol=1e-14)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_on_a_trajectory_the_target_is_that_of_a_step_from_its_state(solver):
    grid, x = sampling_grid(6), noise()
    states = consistency.trajectory(WORLD.velocity, x, grid, solver=solver)
    for index in range(6):
        step = consistency.hop(torch.full((len(x),), index), grid, phases=2)
        found = consistency.landing(WORLD.velocity, states[index + 1], step)
        stepped = consistency.consistency_target(
            WORLD.velocity, WORLD.velocity, states[index], step, solver=solver
        )
        assert torch.equal(found, stepped)


def test_pseudo_huber_is_quadratic_near_and_linear_far():
    a = torch.zeros(2, 10_000, dtype=torch.float64)
    near, far = torch.full_like(a, 1e-6), torch.full_like(a, 10.0)
    c = 0.00054 * 100
    torch.testing.assert_close(
        consistency.pseudo_huber(near, a),
        torch.full((2,), (1e-4**2) / (2 * c) / 10_000, dtype=torch.float64),
        rtol=1e-4, atol=0,
    )  # fmt: skip
    torch.testing.assert_close(
        consistency.pseudo_huber(far, a),
        torch.full((2,), (1000 - c) / 10_000, dtype=torch.float64),
        rtol=1e-6, atol=0,
    )  # fmt: skip


def test_the_schedule_of_training_grows_from_first_to_last():
    grown = [consistency.training_intervals(step, 1000) for step in range(0, 1001, 100)]
    assert grown[0] == 2
    assert grown[-1] == 151
    assert all(a <= b for a, b in itertools.pairwise(grown))
    assert consistency.target_decay(2) == pytest.approx(0.95)
    assert consistency.target_decay(200) == pytest.approx(0.95**0.01)
