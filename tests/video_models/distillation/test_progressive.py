"""Progressive distillation: an exact student of n steps is the teacher at 2 n."""

import pytest
import torch

from tests.video_models.diffusion.gaussian import example, noise
from video_models.diffusion.samplers import sample_euler
from video_models.diffusion.timesteps import sampling_grid
from video_models.distillation import progressive

WORLD = example()


def intervals(steps, num, *, shift):
    """The intervals of samples that all take one step after the other."""
    return [
        progressive.student_interval(torch.full((num,), index), steps, shift=shift)
        for index in range(steps)
    ]


def exact_student(teacher, steps, *, shift):
    """Return the student of a stage that has no loss: the target itself, at every grid time."""

    def velocity(z, t):
        for interval in intervals(steps, len(z), shift=shift):
            if torch.equal(interval.start, t):
                return progressive.halving_target(teacher, z, interval)
        raise AssertionError(f"no step of the student starts at {t}")

    return velocity


def gap(stages, *, shift):
    """Distance of the last exact student's sample from the first teacher's at all its steps."""
    x, first = noise(), WORLD.velocity
    student = first
    for steps in stages:
        student = exact_student(student, steps, shift=shift)
    few = sample_euler(student, x, sampling_grid(stages[-1], shift=shift))
    many = sample_euler(first, x, sampling_grid(2 * stages[0], shift=shift))
    return (few - many).abs().max().item()


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_one_step_of_the_target_lands_where_two_of_the_teacher_do(shift):
    z = noise()
    interval = progressive.student_interval(torch.arange(5) % 4, 4, shift=shift)
    v = progressive.halving_target(WORLD.velocity, z, interval)
    t, m, r = interval.start, interval.middle, interval.end
    halfway = z + (m - t)[:, None] * WORLD.velocity(z, t)
    expected = halfway + (r - m)[:, None] * WORLD.velocity(halfway, m)
    torch.testing.assert_close(z + (r - t)[:, None] * v, expected, rtol=1e-13, atol=1e-13)


def test_the_target_is_the_closed_form_of_a_gaussian():
    z = noise()
    interval = progressive.student_interval(torch.arange(5) % 4, 4)
    t, m, r = (x[:, None] for x in (interval.start, interval.middle, interval.end))
    factor = (1 + (m - t) * WORLD.slope(t)) * (1 + (r - m) * WORLD.slope(m))
    landed = (1 - r) * WORLD.mean + factor * (z - (1 - t) * WORLD.mean)
    v = progressive.halving_target(WORLD.velocity, z, interval)
    torch.testing.assert_close(v, (z - landed) / (t - r), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("stages", [(16,), (16, 8, 4), (8, 4, 2, 1)])
def test_exact_students_of_all_stages_are_the_first_teacher_at_all_its_steps(stages, shift):
    assert gap(stages, shift=shift) < 1e-12


def test_the_exact_student_has_no_loss_and_another_has():
    z = noise(4)
    interval = progressive.student_interval(torch.arange(4), 4, shift=3.0)
    target = progressive.halving_target(WORLD.velocity, z, interval)

    def loss(student):
        return progressive.halving_loss(student, WORLD.velocity, z, interval)

    assert not loss(lambda z, t: target).any()
    torch.testing.assert_close(
        loss(lambda z, t: target + 2), torch.full((4,), 4.0, dtype=torch.float64)
    )


def test_the_student_is_asked_at_the_start_of_its_step_and_the_teacher_gets_no_gradient():
    weights = torch.ones(2, dtype=torch.float64, requires_grad=True)
    z, times = noise(4), []
    interval = progressive.student_interval(torch.arange(4), 4)

    def student(z, t):
        times.append(t)
        return weights[0] * z

    loss = progressive.halving_loss(student, lambda z, t: weights[1] * z, z, interval)
    loss.sum().backward()
    assert torch.equal(times[0], interval.start)
    assert weights.grad[0] != 0
    assert weights.grad[1] == 0


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_the_grids_of_student_and_teacher_nest(shift):
    fine = sampling_grid(8, shift=shift)
    interval = progressive.student_interval(torch.arange(4), 4, shift=shift)
    for times, expected in (
        (interval.start, fine[:-1:2]),
        (interval.middle, fine[1::2]),
        (interval.end, fine[2::2]),
    ):
        torch.testing.assert_close(times, expected, rtol=0, atol=1e-15)


def test_latents_in_float32_get_a_target_in_float32():
    z = torch.randn(4, 2, 3, 2, 2)
    interval = progressive.student_interval(torch.arange(4), 4)
    assert progressive.halving_target(lambda z, t: z, z, interval).dtype == torch.float32


def test_stages_halve_from_start_to_end():
    assert progressive.halving_stages(32, 4) == (16, 8, 4)
    assert progressive.halving_stages(2, 1) == (1,)


@pytest.mark.parametrize(("start", "end"), [(32, 5), (4, 4), (12, 4), (4, 8), (8, 0)])
def test_steps_that_cannot_be_halved_are_an_error(start, end):
    with pytest.raises(ValueError, match="cannot halve"):
        progressive.halving_stages(start, end)
