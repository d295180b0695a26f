"""Real files, when `REAL_VIDEOS` names a folder of them: clips/ and odd/ read, broken/ refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from video_platform.errors import MediaError
from video_platform.video.backends import why_not_decord
from video_platform.video.decode import decode
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import REASONS, MediaLimits
from video_platform.video.media import open_video
from video_platform.video.policy import PixelPolicy

FOLDER = os.environ.get("REAL_VIDEOS")
FILES = sorted(path for path in Path(FOLDER or "/nonexistent").glob("*/*") if path.is_file())
VIDEOS = [path for path in FILES if path.suffix not in (".jsonl", ".csv", ".txt")]
NO_VIDEO = {"8k24fps_300ms.mp4": "too_many_pixels", "sample_audio_only.mp4": "no_video_stream"}

pytestmark = pytest.mark.skipif(not VIDEOS, reason="REAL_VIDEOS names no folder of videos")
POLICY = PixelPolicy(frames=5, height=96, width=160, fps=8.0, short="repeat_last")


@pytest.fixture(scope="module")
def decoder():
    with IsolatedDecoder(MediaLimits(timeout_s=30)) as decoder:
        yield decoder


@pytest.mark.parametrize("path", VIDEOS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_is_read_rightly_or_refused_with_a_reason(decoder, path):
    try:
        info = decoder.probe(path)
    except MediaError as error:
        assert error.reason in REASONS
        assert error.reason not in ("crash", "timeout")
        assert path.parent.name == "broken" or error.reason == NO_VIDEO[path.name]
        return
    assert path.parent.name != "broken"
    assert info.frames > 0
    frames = decoder.decode(path, POLICY).frames
    assert frames.shape == (5, 96, 160, 3)
    assert frames.any()


@pytest.mark.parametrize("path", VIDEOS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_decord_agrees_bit_for_bit_wherever_it_is_let(path):
    limits = MediaLimits()
    try:
        with open_video(path, limits) as video:
            if why_not_decord(video, POLICY):
                return
        theirs = decode(path, policy=POLICY, limits=limits, backend="decord")
    except MediaError:
        return
    ours = decode(path, policy=POLICY, limits=limits, backend="pyav")
    np.testing.assert_array_equal(theirs.frames, ours.frames)
    assert theirs.pts_s == ours.pts_s
