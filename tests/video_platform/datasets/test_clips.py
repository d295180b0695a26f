"""Clips of a dataset as pixels: where they begin, and what stands in for one that is damaged."""

import dataclasses

import numpy as np
import pytest

from video_platform.datasets.clips import DecodedClips
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source
from video_platform.errors import SourceError
from video_platform.video.encode import write_mp4
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

POLICY = PixelPolicy(frames=2, height=16, width=16, fps=8.0)


@pytest.fixture
def records(tmp_path):
    (tmp_path / "0.mp4").write_bytes(b"this is no video")
    grey = np.arange(0, 240, 20, dtype=np.uint8)[:, None, None, None]
    write_mp4(tmp_path / "1.mp4", np.broadcast_to(grey, (12, 16, 16, 3)).copy(), fps=8)
    return open_source(SourceConfig(url=str(tmp_path)))


def decoded(records):
    clips = DecodedClips(records, policy=POLICY, limits=MediaLimits())
    try:
        return [clips[place].mean((1, 2, 3)) for place in range(len(clips))], clips.rejects
    finally:
        clips.close()


def test_a_clip_begins_where_its_record_says(records):
    later = dataclasses.replace(records[1], id="later", file="1.mp4", start_s=0.5)
    [first, second], _ = decoded([records[1], later])
    assert first == pytest.approx([0, 20], abs=3)
    assert second == pytest.approx([80, 100], abs=3)


def test_the_next_clip_stands_in_for_a_damaged_one(records):
    [first, second], rejects = decoded(records)
    assert np.array_equal(first, second)
    assert rejects == {"0.mp4": "not_video"}
    with pytest.raises(SourceError, match="none of the 1 clips can be decoded: 1 x not_video"):
        decoded(records[:1])
