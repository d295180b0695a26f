"""LPIPS with random weights: its formula written out, and the layers of VGG16."""

import pytest
import torch
import torch.nn.functional as F

from video_models.objectives.lpips import Lpips


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = Lpips()
    for name, parameter in network.named_parameters():
        if name.startswith("lin"):
            parameter.copy_(torch.rand_like(parameter))
    return network


def images(*, seed, frames=1, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, frames, 16, 32, generator=generator) * 2 - 1


VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)
"""Configuration D of Simonyan & Zisserman."""


def written_out(network, one, other):
    """The distance of two images (3, H, W), layer by layer with the published names."""
    state = network.state_dict()
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    x = torch.stack([(one - shift) / scale, (other - shift) / scale])
    distance, index, group = 0.0, 0, 0
    for layer in (*VGG16, "end"):
        if isinstance(layer, str):
            unit = x / x.square().sum(1, keepdim=True).sqrt()
            weight = state[f"lin{group}.model.1.weight"]
            distance += ((unit[0] - unit[1]).square() * weight[0]).sum(0).mean()
            x, index, group = F.max_pool2d(x, 2) if layer == "M" else x, index + 1, group + 1
            continue
        kernel = state[f"features.{index}.weight"]
        assert kernel.shape[0] == layer
        x = F.relu(F.conv2d(x, kernel, state[f"features.{index}.bias"], padding=1))
        index += 2
    return distance


def test_it_computes_the_published_formula_with_the_published_names(network):
    one, other = images(seed=1), images(seed=2)
    expected = written_out(network, one[0, :, 0], other[0, :, 0])
    torch.testing.assert_close(network(one, other)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_video_costs_the_mean_of_its_frames(network):
    one, other = images(seed=1, frames=2, batch=2), images(seed=2, frames=2, batch=2)
    frames = [network(one[:, :, t : t + 1], other[:, :, t : t + 1]) for t in range(2)]
    torch.testing.assert_close(network(one, other), torch.stack(frames).mean(0))


def test_equal_videos_are_no_distance_apart_and_the_gradient_is_finite(network):
    video = images(seed=1)
    assert network(video, video).item() == 0
    near = (video + 0.01).requires_grad_()
    network(near, video).sum().backward()
    assert near.grad is not None
    assert near.grad.isfinite().all()
    assert near.grad.abs().sum() > 0


def test_nothing_of_it_is_trained(network):
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.training


def test_frames_that_vgg16_cannot_take_are_refused(network):
    small = torch.zeros(1, 3, 1, 8, 16)
    with pytest.raises(ValueError, match=r"at least 16 x 16 pixels, not 8 x 16"):
        network(small, small)
