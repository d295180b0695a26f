"""Real videos, odd and broken ones: none is lost, each is left out for the right reason."""

import os

import pytest

from video_platform.clips.config import Bucket, ClipsConfig
from video_platform.clips.filter_config import Blank, NearDuplicate, Static
from video_platform.clips.scanning import Scanner
from video_platform.clips.scans import Scanning
from video_platform.clips.selection import select_clips
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source, read_media
from video_platform.storage import open_store
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

REAL_VIDEOS = os.environ.get("REAL_VIDEOS")
pytestmark = pytest.mark.skipif(
    REAL_VIDEOS is None, reason="set REAL_VIDEOS to a folder with clips/, odd/ and broken/"
)
POLICY = PixelPolicy(frames=17, height=64, width=64, fps=8.0)
CONFIG = ClipsConfig(
    cut="scenes",
    buckets=(
        Bucket(frames=(1, 5, 17, 33), height=64, width=112),
        Bucket(frames=(1, 5, 17, 33), height=112, width=64),
    ),
    filters=(Blank(), Static(), NearDuplicate()),
)
LEFT_OUT = {
    "odd/-video-with-dash-.mp4": {"too_small"},  # 1 x 1 pixels
    "odd/8k24fps_300ms.mp4": {"too_many_pixels"},
    "odd/animated.gif": {"too_short"},
    "odd/discard_first_keyframe.mp4": {"too_small"},  # 64 x 64
    "odd/minimal.mp4": {"blank"},
    "odd/no_duration.webm": {"blank"},
    "odd/sample_android_slow_motion.mp4": {"static"},
    "odd/sample_audio_only.mp4": {"no_video_stream"},
    "odd/sample_fragmented.mp4": {"near_duplicate"},  # as clips/man.mp4
    "odd/sample_without_stss.mp4": {"near_duplicate"},
    "odd/test_non_zero_start.mp4": {"too_short"},
    "odd/testsrc2_odd_height_and_width_444.mp4": {"near_duplicate"},  # as the one before it
    "odd/testsrc2_vp9.webm": {"near_duplicate"},  # as testsrc2_h265.mp4
    "odd/unordered.mov": {"too_short"},
    "odd/video_90.mov": {"too_short"},
}
"""Readable or odd files of which no clip is taken."""


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Every file, the selection, and its table."""
    import pyarrow.parquet as pq

    files = open_source(SourceConfig(url=str(REAL_VIDEOS), images=True))
    scanner = Scanner(Scanning.of(CONFIG, MediaLimits()))
    root = open_store(tmp_path_factory.mktemp("cache"))
    found = ((file, scanner.look(file)) for file in files)
    selection = select_clips(root, found, CONFIG, POLICY)
    scanner.close()
    return files, selection, pq.read_table(root.local_path(selection.table)).to_pylist()


def test_every_file_is_accounted_for(planned):
    files, selection, pieces = planned
    assert {piece["file"] for piece in pieces} == {file.id for file in files}
    assert len(pieces) == sum(row.clips for row in selection.rows)


def test_files_are_left_out_for_the_right_reasons(planned):
    _, _, pieces = planned
    reasons = {}
    for piece in pieces:
        reasons.setdefault(piece["file"], set()).add(piece["reason"])
    left_out = {file: found for file, found in reasons.items() if "" not in found}
    broken = {file: left_out.pop(file) for file in sorted(left_out) if file.startswith("broken/")}
    assert left_out == LEFT_OUT
    assert len(broken) == 14
    unread = {"corrupt", "empty_file", "no_frames", "no_video_stream", "unsupported_codec"}
    assert all(found <= {*unread, "unsupported_format"} for found in broken.values())
    assert broken["broken/result.webm"] == {"empty_file"}


def test_every_clip_that_is_planned_can_be_decoded(planned):
    _, selection, _ = planned
    with IsolatedDecoder(MediaLimits()) as decoder:
        for clip in selection.records[::3]:
            frames = decoder.decode(
                read_media(clip), POLICY.at(clip.size), start_s=clip.start_s
            ).frames
            assert frames.shape == (*clip.size, 3)
