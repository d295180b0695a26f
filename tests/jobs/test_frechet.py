"""The Fréchet distance does not depend on batches, and its name says what it is."""

import dataclasses

import pytest
import torch

from jobs.evaluation_config import EvaluationConfig
from jobs.frechet import Cloud, distance_of, open_features
from video_models.metrics.frechet import frechet_distance_of, gaussian_of


def features(video):
    """Means of each frame by channel and half: (B T, 6)."""
    left, right = video.chunk(2, dim=-1)
    halves = [half.mean((-1, -2)).movedim(1, -1) for half in (left, right)]  # (B, T, 3)
    return torch.cat(halves, dim=-1).flatten(0, 1)


def videos(count, seed=0, side=8):
    return torch.randn(count, 3, 5, side, side, generator=torch.Generator().manual_seed(seed)) + 5


def cloud(video, batch):
    found = Cloud(features=features)
    for part in torch.split(video, batch):
        found.add(part)
    return found


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_batches_change_no_moment(batch):
    video = videos(16)
    found, whole = cloud(video, batch).gaussian, gaussian_of(features(video))
    torch.testing.assert_close(found.mean, whole.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.covariance, whole.covariance, rtol=1e-5, atol=1e-8)


def test_the_distance_is_that_of_the_clouds():
    one, other = videos(16), 1.5 * videos(16, seed=1)
    _, distance = distance_of(cloud(one, 5), cloud(other, 16))
    assert distance == pytest.approx(frechet_distance_of(features(one), features(other)), rel=1e-4)
    assert distance_of(cloud(one, 5), cloud(one, 16))[1] == pytest.approx(0, abs=1e-6)


def test_the_name_says_what_the_number_is():
    name, _ = distance_of(cloud(videos(16), 5), cloud(videos(16, seed=1), 5))
    assert name == "fréchet distance of frames by CLIP, 16 clips of 8 x 8"
    name, _ = distance_of(cloud(videos(16), 5), cloud(videos(4, side=4), 5))
    assert name == "fréchet distance of frames by CLIP, 16 clips of 8 x 8 against 4 of 4 x 4"


def test_one_frame_is_no_cloud():
    found = Cloud(features=features)
    found.add(videos(1)[:, :, :1])
    with pytest.raises(ValueError, match="1 samples"):
        _ = found.gaussian


def test_without_a_network_there_is_none():
    assert open_features(EvaluationConfig()) is None
    assert open_features(dataclasses.replace(EvaluationConfig(), feature_network="")) is None
