"""Hinges by hand, R1 on networks whose gradient is known, and the adaptive weight."""

import pytest
import torch
from torch import nn

from video_models.objectives.adversarial import (
    adaptive_weight,
    discriminator_hinge,
    generator_hinge,
    gradient_penalty,
)


def test_hinges_have_the_values_worked_out_by_hand():
    real = torch.tensor([[2.0, 0.5], [-1.0, 1.0]])
    fake = torch.tensor([[-3.0, 0.0], [1.0, -0.5]])
    # Real: max(0, 1 - x) = 0, 0.5; 2, 0. Fake: max(0, 1 + x) = 0, 1; 2, 0.5.
    expected = [(0.25 + 0.5) / 2, (1.0 + 1.25) / 2]
    assert discriminator_hinge(real, fake).tolist() == pytest.approx(expected)
    assert generator_hinge(fake).tolist() == pytest.approx([1.5, -0.25])


def test_a_discriminator_that_is_right_by_a_margin_has_nothing_to_learn():
    real, fake = torch.full((1, 1, 2, 3, 3), 1.5), torch.full((1, 1, 2, 3, 3), -1.5)
    assert discriminator_hinge(real, fake).item() == 0


def test_r1_of_a_linear_network_is_half_its_squared_weights():
    network = nn.Linear(12, 1, bias=False).double()
    video = torch.randn(3, 3, 1, 2, 2, dtype=torch.float64)
    penalty = gradient_penalty(lambda v: network(v.flatten(1)), video)
    weight = network.weight.detach()
    torch.testing.assert_close(penalty, (weight.square().sum() / 2).expand(3))
    (slope,) = torch.autograd.grad(penalty.sum(), network.weight)
    torch.testing.assert_close(slope, 3 * weight, atol=1e-6, rtol=1e-6)


def test_r1_takes_the_mean_over_patches_and_keeps_samples_apart():
    def quadratic(video):
        return video.square()  # the mean of n patches has the gradient 2 x / n

    video = torch.randn(2, 3, 2, 4, 4)
    n = video[0].numel()
    expected = (2 * video / n).square().flatten(1).sum(1) / 2
    torch.testing.assert_close(gradient_penalty(quadratic, video), expected)


def test_the_adaptive_weight_balances_the_two_gradients():
    reconstruction, adversarial = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 0.1])
    weight = adaptive_weight(reconstruction, adversarial, limit=1e4)
    assert weight.item() == pytest.approx(5 / (0.1 + 1e-4))
    assert not weight.requires_grad


def test_the_adaptive_weight_is_bounded_where_the_discriminator_has_no_opinion():
    assert adaptive_weight(torch.ones(4), torch.zeros(4), limit=100.0).item() == 100.0
