"""Moment matching of a linear student to a Gaussian: exact gradients by quadrature."""

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss

from tests.video_models.diffusion.gaussian import Gaussian
from video_models.distillation import moment_matching as mm

MEAN, STD = 1.3, 0.6
STUDENT_AT_REST = (STD, MEAN)
NODES, WEIGHTS = (torch.from_numpy(v) for v in hermegauss(20))


def law(mean, std):
    return Gaussian(torch.tensor([mean], dtype=torch.float64), torch.tensor([std]).double())


TEACHER = law(MEAN, STD)
Z = NODES.repeat_interleave(20)[:, None]  # the student's noise, in pairs with
E = NODES.repeat(20)[:, None]  # the noise of z_s
PAIRS = (WEIGHTS.repeat_interleave(20) * WEIGHTS.repeat(20)) / WEIGHTS.sum() ** 2


def gradient(a, b, *, auxiliary=None, s=0.4):
    """The expected gradient of the student x~ = a z + b that jumps from pure noise, by (a, b)."""
    student = torch.tensor([a, b], dtype=torch.float64, requires_grad=True)
    auxiliary = auxiliary or law(b, abs(a)).velocity
    clean = student[0] * Z + student[1]
    t, s = torch.ones(400, dtype=torch.float64), torch.full((400,), s, dtype=torch.float64)
    z_s = mm.noised_again(clean, Z, t, s, E)
    loss = mm.matching_loss(auxiliary, TEACHER.velocity, clean, z_s, s)
    (found,) = torch.autograd.grad((PAIRS * loss).sum(), student)
    return found


def test_a_student_of_the_teachers_law_rests():
    assert gradient(*STUDENT_AT_REST).abs().max() < 1e-12


def test_the_gradient_is_that_of_the_moments():
    """For x~ = a z + b: E[z (x_aux - x_T)] and E[x_aux - x_T], both linear in z_s at s."""
    assert gradient(*STUDENT_AT_REST).abs().max() < 1e-12
    a, b, s = 0.9, -0.2, torch.tensor([0.4], dtype=torch.float64)
    (slope, offset), (other_slope, other_offset) = (
        (
            (law_.denoised(one, s) - law_.denoised(0 * one, s)).item(),
            law_.denoised(0 * one, s).item(),
        )
        for one in (torch.ones(1, 1, dtype=torch.float64),)
        for law_ in (law(b, a), TEACHER)
    )
    by_z = (slope - other_slope) * (1 - s.item()) * a  # z_s = (1 - s) x~ + s e, of E[z z_s]
    mean = (slope - other_slope) * (1 - s.item()) * b + offset - other_offset
    found = gradient(a, b, s=s.item())
    assert found.tolist() == pytest.approx([by_z, mean], abs=1e-10)


def settled(steps=3000):
    """Where gradient descent on the student leads; the auxiliary network is exact at every step."""
    a, b = 1.5, -0.5
    for _ in range(steps):
        if not (abs(a) < 50 and abs(b) < 50 and a > 0.05):
            break
        found = gradient(a, b)
        a, b = a - 0.5 * found[0].item(), b - 0.5 * found[1].item()
    return a, b


def test_descent_leads_to_the_teachers_law():
    assert settled() == pytest.approx(STUDENT_AT_REST, abs=1e-3)


def half_way(x, t):
    """An auxiliary network at the optimum of both its terms: between student's and teacher's."""
    return (law(-0.2, 0.9).velocity(x, t) + TEACHER.velocity(x, t)) / 2


def test_the_auxiliary_networks_pull_to_the_teacher_halves_the_gradient():
    whole = gradient(0.9, -0.2)
    torch.testing.assert_close(gradient(0.9, -0.2, auxiliary=half_way), whole / 2)


def auxiliary_gradient():
    """Of the auxiliary network's loss by an offset from the mean of x~ and the teacher's."""
    z_s, s = torch.randn(6, 1).double(), torch.linspace(0.2, 0.9, 6, dtype=torch.float64)
    clean = torch.randn(6, 1).double()
    t = s[:, None]
    offset = torch.zeros(6, 1, dtype=torch.float64, requires_grad=True)

    def auxiliary(x, _):
        middle = (clean + TEACHER.denoised(x, s)) / 2
        return (x - middle - offset) / t

    loss = mm.auxiliary_loss(auxiliary, TEACHER.velocity, clean, z_s, s).sum()
    (found,) = torch.autograd.grad(loss, offset)
    return found.abs().max().item()


def test_the_auxiliary_network_rests_between_student_and_teacher():
    assert auxiliary_gradient() < 1e-12


def test_pairs_of_times_lie_in_one_step_of_the_student():
    t, s = mm.draw_pairs(4000, 4, generator=torch.Generator().manual_seed(0))
    assert set(t.tolist()) == {0.25, 0.5, 0.75, 1.0}
    gap = t - s
    assert gap.min() > 0
    assert gap.max() <= 0.25
    assert gap.mean().item() == pytest.approx(0.125, abs=0.005)
    assert s.min() >= 0


def kept(s=0.35):
    """How far z_s is from the student's law noised to s, where z_t was made from x~ itself."""
    t, num = 0.8, 400_000
    draw = torch.Generator().manual_seed(1)
    clean = 0.6 * torch.randn(num, 1, generator=draw).double() + 1.3
    z_t = (1 - t) * clean + t * torch.randn(num, 1, generator=draw).double()
    noise = torch.randn(num, 1, generator=draw).double()
    times = (torch.full((num,), v, dtype=torch.float64) for v in (t, s))
    z_s = mm.noised_again(clean, z_t, *times, noise)
    exact = law(1.3, 0.6).spread(s).item()
    return abs(z_s.mean().item() - (1 - s) * 1.3), abs(z_s.std().item() - exact)


def test_noising_again_stays_on_the_path():
    assert max(kept()) < 0.005


def test_noising_again_keeps_a_part_of_the_noise():
    """Given x~, z_s follows the noise of z_t with the slope a s^2 / t^2 of the posterior."""
    t, s = 0.8, 0.35
    clean, e = torch.zeros(2, 1, dtype=torch.float64), torch.tensor([[0.0], [1.0]]).double()
    times = (torch.full((2,), v, dtype=torch.float64) for v in (t, s))
    z_s = mm.noised_again(clean, t * e, *times, 0 * e)
    slope = (1 - t) / (1 - s) * s**2 / t
    torch.testing.assert_close(z_s[1] - z_s[0], torch.tensor([slope], dtype=torch.float64))


def test_gradient_goes_to_the_student_alone_and_not_through_the_bracket():
    weights = torch.ones(3, dtype=torch.float64, requires_grad=True)
    clean = weights[0] * Z
    loss = mm.matching_loss(
        lambda x, t: weights[1] * x,
        lambda x, t: weights[2] * 2 * x,
        clean,
        clean * 1,
        E[:, 0] * 0 + 0.5,
    )
    loss.sum().backward()
    assert not weights.grad[1:].any()
    # d/dw of sum z (x_aux - x_T) with x_aux - x_T = 0.5 (2 - 1) w z held fixed.
    torch.testing.assert_close(weights.grad[0], (0.5 * Z * Z).sum())
