"""What a discriminator takes, that samples do not mix, and how far a patch reaches."""

import pytest
import torch

from video_models.autoencoder.discriminator import PatchDiscriminator
from video_models.autoencoder.discriminator_config import DiscriminatorConfig


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PatchDiscriminator(DiscriminatorConfig(base_dim=8, num_layers=2))


def clip(frames, *, batch=1, side=16):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, frames, side, side, generator=generator) * 2 - 1


def test_images_and_clips_get_a_logit_for_each_patch_of_each_frame(network):
    assert network(clip(1)).shape == (1, 1, 1, 2, 2)
    assert network(clip(5, batch=2)).shape == (2, 1, 5, 2, 2)


def test_the_samples_of_a_batch_do_not_mix(network):
    video = clip(5, batch=3)
    apart = torch.cat([network(one[None]) for one in video])
    torch.testing.assert_close(network(video), apart)


@pytest.mark.parametrize(("num_layers", "pixels"), [(2, 34), (3, 70)])
def test_a_patch_reaches_as_far_as_documented(num_layers, pixels):
    config = DiscriminatorConfig(base_dim=2, num_layers=num_layers, kernel_frames=1)
    network = PatchDiscriminator(config, channels=1)
    network.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in network.norms)
    video = torch.rand(1, 1, 1, 128, 128, requires_grad=True)
    logits = network(video)
    logits[0, 0, 0, logits.shape[3] // 2, logits.shape[4] // 2].backward()
    assert video.grad is not None
    rows = video.grad[0, 0, 0].abs().sum(1).nonzero().flatten()
    assert rows.max() - rows.min() + 1 == pixels


def test_frames_see_their_neighbours_only_through_kernels_over_time():
    torch.manual_seed(0)
    network = PatchDiscriminator(DiscriminatorConfig(base_dim=8, num_layers=1, kernel_frames=1))
    network.norms = torch.nn.ModuleList(torch.nn.Identity() for _ in network.norms)
    video = clip(3)
    torch.testing.assert_close(network(video)[:, :, 1:2], network(video[:, :, 1:2]))


def test_frames_that_hold_no_patch_are_refused(network):
    with pytest.raises(ValueError, match=r"at least 12 x 12 pixels, not 8 x 8"):
        network(clip(1, side=8))


@pytest.mark.parametrize(
    ("sizes", "says"),
    [({"num_layers": 0}, "num_layers is 0"), ({"kernel_frames": 2}, "kernel_frames is 2")],
)
def test_sizes_that_make_no_network_are_refused(sizes, says):
    with pytest.raises(ValueError, match=says):
        DiscriminatorConfig(**sizes)
