"""Real files, when `REAL_VIDEOS` names a folder of them: clips/ and odd/ read, broken/ refused.

What is decoded is compared with the plainest thing that PyAV can do: open the file, decode all of
it, look at the frames and their times.
"""

import bisect
import os
import random
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from video_platform.errors import MediaError
from video_platform.video.backends import decode_with_pyav, pick_frames, why_not_decord
from video_platform.video.decode import decode
from video_platform.video.feed import CannotSeek
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import REASONS, MediaLimits
from video_platform.video.media import open_video
from video_platform.video.picking import TOLERANCE_S, FramePicker
from video_platform.video.policy import PixelPolicy

FOLDER = os.environ.get("REAL_VIDEOS")
FILES = sorted(path for path in Path(FOLDER or "/nonexistent").glob("*/*") if path.is_file())
VIDEOS = [path for path in FILES if path.suffix not in (".jsonl", ".csv", ".txt")]
NO_VIDEO = {"8k24fps_300ms.mp4": "too_many_pixels", "sample_audio_only.mp4": "no_video_stream"}
NO_SPARING = {  # no index, several videos, an edit list: these are read from their start
    "animated.gif",
    "discard_first_keyframe.mp4",
    "earth.avi",
    "sample-with-large-length.avi",
    "telescope.mp4",
}
READABLE = [path for path in VIDEOS if path.parent.name != "broken" and path.name not in NO_VIDEO]

pytestmark = pytest.mark.skipif(not VIDEOS, reason="REAL_VIDEOS names no folder of videos")
each = pytest.mark.parametrize("path", VIDEOS, ids=lambda path: f"{path.parent.name}/{path.name}")
each_readable = pytest.mark.parametrize("path", READABLE, ids=lambda path: path.name)
POLICY = PixelPolicy(frames=5, height=96, width=160, fps=8.0, short="repeat_last")


@pytest.fixture(scope="module")
def decoder():
    with IsolatedDecoder(MediaLimits(timeout_s=30)) as decoder:
        yield decoder


@each
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


def plain_frames(path):
    """Every frame of a file by plain PyAV, each with its time in ticks after the first."""
    with av.open(str(path)) as container:
        first = None
        for number, frame in enumerate(container.decode(container.streams.best("video"))):
            # AVI keeps the order of decoding only: its frames come at an even pace.
            time = number if container.format.name == "avi" else frame.pts
            first = time if first is None else first
            yield frame, time - first


def requests(path, duration_s, count):
    """Clips all over a video: sparse and dense, short and long."""
    rng = random.Random(path.name)
    for _ in range(count):
        frames, fps = rng.choice([1, 2, 5, 16]), rng.choice([0.5, 2.0, 8.0, 24.0, 30.0, 60.0])
        start_s = rng.choice([0.0, rng.uniform(0, duration_s)])
        policy = PixelPolicy(frames=frames, height=8, width=8, fps=fps, short="repeat_last")
        yield policy, Fraction(start_s).limit_denominator(1000)


@each_readable
def test_frames_are_those_of_a_plain_decode_of_the_whole_file(path):
    """Bit for bit in the native planes, 8 bits or 10, at the same times."""
    plain = {time: zlib.crc32(frame.to_ndarray().tobytes()) for frame, time in plain_frames(path)}
    times = list(plain)
    assert times == sorted(times)
    with open_video(path, MediaLimits()) as video:
        tick, display = video.tick, video.display
    for policy, start_s in requests(path, float(times[-1] * tick), 8):
        moments = [start_s + Fraction(k) / Fraction(policy.fps) for k in range(policy.frames)]
        expected = [
            times[bisect.bisect_right(times, (moment + TOLERANCE_S) / tick) - 1]
            for moment in moments
        ]
        for sparing in (True, False):
            try:
                with open_video(path, MediaLimits(), sparing=sparing) as video:
                    assert (video.tick, video.display) == (tick, display)
                    picker = FramePicker(policy, tick=tick, start_s=float(start_s))
                    shown = list(pick_frames(video, picker))
            except CannotSeek:
                assert sparing
                assert path.name in NO_SPARING
                continue
            assert [time for _, time, repeats in shown for _ in range(repeats)] == expected
            for frame, time, _ in shown:
                assert zlib.crc32(frame.to_ndarray().tobytes()) == plain[time]


@each_readable
def test_pictures_before_any_resize_are_those_of_a_plain_conversion(path):
    """Bit for bit in RGB as stored, with the matrix and the range that the frame names."""
    policy = PixelPolicy(frames=4, height=8, width=8, fps=3.0, short="repeat_last")
    with open_video(path, MediaLimits()) as video:
        picker = FramePicker(policy, tick=video.tick)
        shown = {
            round(picture.time_s / video.tick): picture.picture
            for picture in decode_with_pyav(path, video, picker, MediaLimits())
        }
    for frame, time in plain_frames(path):
        if time in shown:
            full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
            matrix = {1: Colorspace.ITU709, 9: Colorspace.BT2020}.get(
                int(frame.colorspace), Colorspace.ITU601
            )
            rgb = frame.reformat(
                format="rgb24",
                src_colorspace=matrix,
                src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
            )
            np.testing.assert_array_equal(shown.pop(time), rgb.to_ndarray())
    assert not shown


@each
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
