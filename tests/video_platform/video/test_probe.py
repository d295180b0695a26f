"""What `probe` says of media whose every oddity is known."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from video_platform.video.limits import MediaLimits
from video_platform.video.probe import probe


@pytest.mark.parametrize(
    ("codec", "container", "name"),
    [
        ("libx264", "mp4", "h264"),
        ("libx264", "avi", "h264"),
        ("libx265", "mp4", "hevc"),
        ("libvpx-vp9", "webm", "vp9"),
        ("libvpx", "webm", "vp8"),
        ("libsvtav1", "matroska", "av1"),
        ("mpeg4", "avi", "mpeg4"),
        ("mpeg2video", "mpegts", "mpeg2video"),
    ],
)
def test_every_codec_is_counted_timed_and_named(media, limits, codec, container, name):
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    info = probe(
        media.video(media.grey(12, 64, 96), codec=codec, container=container, **quiet), limits
    )
    assert (info.frames, info.codec) == (12, name)
    assert (info.width, info.height) == (96, 64)
    assert info.fps == pytest.approx(10, rel=1e-3)
    assert info.duration_s == pytest.approx(1.2, abs=0.11)


def test_a_turned_video_is_measured_as_displayed(media, limits):
    info = probe(
        media.video(media.grey(3), prepare=lambda stream: stream.set_display_rotation(-90)), limits
    )
    assert (info.width, info.height) == (48, 64)
    assert (info.rotation, info.mirrored) == (90, False)


def test_oblong_pixels_count_in_the_width(media, limits):
    def widen(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    info = probe(media.video(media.grey(3), prepare=widen), limits)
    assert (info.width, info.height) == (85, 48)


def test_a_variable_rate_is_the_mean_over_the_frames(media, limits):
    info = probe(media.video(media.grey(4), ticks=[500, 533, 1500, 2000]), limits)
    assert info.fps == pytest.approx(3 / 1.5)
    assert info.duration_s == pytest.approx(2.0, abs=0.6)


def test_ten_bits_and_odd_sizes_are_read(media, limits):
    ten = probe(media.video(media.grey(3), pixel_format="yuv420p10le"), limits)
    odd = probe(media.video(media.grey(3, 49, 65), pixel_format="yuv444p"), limits)
    assert ten.pixel_format == "yuv420p10le"
    assert (odd.width, odd.height) == (65, 49)


def test_a_single_frame_has_no_rate(media, limits):
    info = probe(media.video(media.grey(1)), limits)
    assert (info.frames, info.fps) == (1, None)


def test_of_several_video_streams_the_one_that_players_show_is_read(limits):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        streams = []
        for size in [(32, 32), (96, 64)]:
            stream = out.add_stream("libx264", rate=10)
            stream.width, stream.height = size
            streams.append(stream)
        streams[1].disposition = Disposition.default
        for stream in streams:
            for index in range(4):
                pixels = noise[: stream.height, : stream.width]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 10)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
    info = probe(buffer.getvalue(), limits)
    assert (info.width, info.height) == (96, 64)


def test_avi_with_reordered_frames_keeps_an_even_pace(media, limits):
    info = probe(media.video(media.grey(30), container="avi", bf="2"), limits)
    assert info.frames == 30
    assert info.fps == pytest.approx(10)


def test_threads_change_nothing(media):
    data = media.video(media.grey(30))
    assert probe(data, MediaLimits(threads=2)) == probe(data, MediaLimits(threads=1))
