"""The outlier penalty with latents whose mean and deviation are known."""

import pytest
import torch

from video_models.objectives.outliers import RADIUS, outlier_penalty


def test_one_planted_outlier_costs_what_it_sticks_out():
    n, height = 400, 7.0
    z = torch.zeros(1, 1, 1, 20, 20)
    z[..., 3, 4] = height
    mean = height / n
    std = (height**2 / n - mean**2) ** 0.5
    expected = (height - mean - RADIUS * std) / n
    assert expected > 0
    assert outlier_penalty(z).item() == pytest.approx(expected, rel=1e-5)


def test_latents_inside_the_radius_are_free():
    z = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    assert outlier_penalty(z).tolist() == [0, 0]


def test_lengths_are_over_channels():
    z = torch.zeros(1, 2, 1, 20, 20)
    z[:, 0, :, 3, 4], z[:, 1, :, 3, 4] = 3.0, 4.0  # together a vector of length 5
    alone = torch.zeros(1, 1, 1, 20, 20)
    alone[..., 3, 4] = 5.0
    torch.testing.assert_close(outlier_penalty(z), outlier_penalty(alone))


def test_frames_and_clips_are_judged_by_themselves():
    z = torch.randn(2, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    z[0, :, 1, 0, 0] = 40.0
    frames = torch.stack([outlier_penalty(z[:, :, t : t + 1]) for t in range(2)])
    torch.testing.assert_close(outlier_penalty(z), frames.mean(0))
    assert outlier_penalty(z)[1] == 0


def test_constant_latents_have_a_finite_gradient():
    z = torch.ones(1, 2, 1, 4, 4, requires_grad=True)
    outlier_penalty(z).sum().backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
