"""Masks from files beside the videos."""

import numpy as np
import pytest
from PIL import Image

from jobs.mask_maker import MaskMaker
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source
from video_platform.video.encode import write_mp4
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

POLICY = PixelPolicy(frames=5, height=16, width=16, fps=8.0)


@pytest.fixture
def clip(tmp_path):
    """The record of a video of six frames of 32 x 48."""
    write_mp4(tmp_path / "a.mp4", np.full((6, 32, 48, 3), 90, np.uint8), fps=8.0)
    (record,) = open_source(SourceConfig(url=str(tmp_path)))
    return record


def make(clip, suffix):
    frames = np.zeros((1, 5, 16, 16, 3), np.uint8)
    (made,) = MaskMaker(suffix, POLICY, MediaLimits(timeout_s=60))(frames, [clip])
    return made


def test_a_mask_video_is_cut_and_resized_as_its_clip_is(clip, tmp_path):
    mask = np.zeros((6, 32, 48, 3), np.uint8)
    mask[:, :, 24:] = 255  # the right half, of which the centre is kept
    mask[3:] = 0
    write_mp4(tmp_path / "a.mask.mp4", mask, fps=8.0)
    found = make(clip, ".mask.mp4").tensors["mask"]
    assert found.shape == (1, 5, 16, 16)
    assert found[0, :3, :, 8:].all() and not found[0, :3, :, :8].any()
    assert not found[0, 3:].any()


def test_a_picture_counts_for_every_frame(clip, tmp_path):
    mask = np.zeros((32, 48), np.uint8)
    mask[:16] = 255
    Image.fromarray(mask).save(tmp_path / "a.mask.png")
    found = make(clip, ".mask.png").tensors["mask"]
    assert found.shape == (1, 5, 16, 16)
    assert found[0, :, :8].all() and not found[0, :, 8:].any()


def test_a_clip_without_a_mask_or_with_a_broken_one_is_refused(clip, tmp_path):
    missing = make(clip, ".mask.mp4").refusal
    assert (missing.reason, missing.message) == (
        "no_mask",
        "there is no mask 'a.mask.mp4' beside the video",
    )
    (tmp_path / "a.mask.mp4").write_bytes(b"this is no video")
    broken = make(clip, ".mask.mp4").refusal
    assert broken.reason == "not_video" and broken.message.startswith("mask 'a.mask.mp4'")
