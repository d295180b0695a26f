"""The flow-matching loss against what it must be."""

import torch

from video_models.objectives.denoising import flow_matching_loss, validation_losses


def batch():
    torch.manual_seed(0)
    return torch.randn(3, 4, 2, 4, 4), torch.randn(3, 4, 2, 4, 4), torch.tensor([0.1, 0.5, 1.0])


def test_the_true_velocity_has_no_loss():
    x0, noise, t = batch()
    assert not flow_matching_loss(lambda x, t: noise - x0, x0, noise=noise, t=t).any()


def test_the_loss_of_zero_is_the_size_of_the_velocity_of_each_sample():
    x0, noise, t = batch()
    loss = flow_matching_loss(lambda x, t: torch.zeros_like(x), x0, noise=noise, t=t)
    torch.testing.assert_close(loss, (noise - x0).square().mean(dim=(1, 2, 3, 4)))


def test_the_network_sees_the_mixture_at_its_time():
    x0, noise, t = batch()
    seen = []
    flow_matching_loss(lambda x, t: seen.append((x, t)) or x, x0, noise=noise, t=t)
    wide = t.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(seen[0][0], (1 - wide) * x0 + wide * noise)
    assert torch.equal(seen[0][1], t)


def test_gradients_reach_the_network():
    x0, noise, t = batch()
    weight = torch.ones((), requires_grad=True)
    flow_matching_loss(lambda x, t: weight * x, x0, noise=noise, t=t).mean().backward()
    assert weight.grad


def test_losses_of_half_precision_are_summed_in_float32():
    x0, noise, t = batch()
    loss = flow_matching_loss(lambda x, t: x.bfloat16(), x0, noise=noise, t=t)
    assert loss.dtype == torch.float32


def test_validation_is_the_loss_at_fixed_times_without_a_graph():
    x0, noise, _ = batch()
    weight = torch.ones((), requires_grad=True)
    losses = validation_losses(lambda x, t: weight * x, x0, noise=noise, times=(0.25, 0.75))
    assert list(losses) == [0.25, 0.75]
    t = torch.full((3,), 0.75)
    expected = flow_matching_loss(lambda x, t: x, x0, noise=noise, t=t)
    torch.testing.assert_close(losses[0.75], expected)
    assert not losses[0.75].requires_grad
