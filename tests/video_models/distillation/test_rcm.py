"""rCM: its warmed tangent at both ends, and a loss that survives a sample gone wrong."""

import torch

from tests.video_models.distillation.angles import WORLD, Angles, network
from tests.video_models.distillation.test_scm import H, X
from video_models.distillation import rcm
from video_models.distillation.scm import tangent

ANGLES = Angles(WORLD, 1.0)


def whole_error():
    """Distance from sCM's tangent where the warm-up is over."""
    g = rcm.warmed_tangent(network, ANGLES.derivative, X, H)
    return (g - tangent(network, ANGLES.derivative, X, H)).abs().max().item()


def start_error():
    """Distance from the teacher's pull where the warm-up begins."""
    g = rcm.warmed_tangent(network, ANGLES.derivative, X, H, warmup=0.0)
    pull = -torch.cos(H)[:, None] * (network(X, H) - ANGLES.derivative(X, H))
    return (g - pull).abs().max().item()


def test_after_the_warm_up_it_is_the_tangent_of_scm():
    assert whole_error() < 1e-12


def test_before_the_warm_up_only_the_teacher_pulls():
    assert start_error() < 1e-12


def test_the_exact_student_rests_after_the_warm_up():
    loss = rcm.rcm_loss(ANGLES.exact_student, ANGLES.derivative, X, H)
    assert loss.abs().max() < 1e-20


def test_the_loss_is_summed_over_a_sample():
    g = rcm.warmed_tangent(network, ANGLES.derivative, X, H)
    unit = g / (g.square().mean(1, keepdim=True).sqrt() + 0.1)
    loss = rcm.rcm_loss(network, ANGLES.derivative, X, H)
    torch.testing.assert_close(loss, unit.square().sum(1))


def test_a_sample_whose_tangent_is_not_finite_counts_nothing():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    def teacher(x, h):
        bad = torch.zeros_like(x)
        bad[2] = torch.nan
        return ANGLES.derivative(x, h) + bad

    loss = rcm.rcm_loss(lambda x, h: weight * network(x, h), teacher, X, H)
    loss.sum().backward()
    assert loss[2] == 0
    assert (loss[[0, 1, 3, 4]] > 0).all()
    assert weight.grad.isfinite()
