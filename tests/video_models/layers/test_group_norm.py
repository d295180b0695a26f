"""Group norm over a frame or over a clip."""

import pytest
import torch
import torch.nn.functional as F

from video_models.layers.group_norm import GroupNorm


def make(per_frame):
    norm = GroupNorm(8, num_groups=2, per_frame=per_frame)
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    torch.nn.init.normal_(norm.bias)
    return norm


@pytest.fixture
def clip():
    return torch.randn(2, 8, 3, 4, 5) * torch.tensor([1.0, 5.0, 9.0]).view(1, 1, 3, 1, 1)


def test_over_frames_each_is_normalised_as_an_image(clip):
    norm = make(per_frame=True)
    for at in range(3):
        torch.testing.assert_close(norm(clip)[:, :, at], norm(clip[:, :, at]))
    later = clip.clone()
    later[:, :, 2] = 0
    assert torch.equal(norm(later)[:, :, :2], norm(clip)[:, :, :2])


def test_over_the_clip_a_group_has_mean_zero_and_variance_one(clip):
    norm = GroupNorm(8, num_groups=2, per_frame=False)
    groups = norm(clip).view(2, 2, -1)
    torch.testing.assert_close(groups.mean(-1), torch.zeros(2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(groups.var(-1, correction=0), torch.ones(2, 2))


@pytest.mark.parametrize("per_frame", [False, True])
@torch.no_grad()
def test_it_activates_and_writes_where_it_is_told_to(clip, per_frame):
    norm, room = make(per_frame), torch.empty(2, 8, 3, 4, 5)
    before = clip.clone()
    assert norm(clip, silu=True, out=room) is room
    torch.testing.assert_close(room, F.silu(norm(clip)))
    assert torch.equal(clip, before)
