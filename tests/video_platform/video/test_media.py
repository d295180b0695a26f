"""Untrusted files: nothing outside them is touched, and every refusal has its reason."""

import http.server
import io
import os
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from video_platform.errors import MediaError
from video_platform.video.limits import REASONS, MediaLimits
from video_platform.video.media import open_video
from video_platform.video.probe import probe


def noise(count):
    """Frames of coarse noise, which take some bytes."""
    blocks = np.random.default_rng(0).integers(0, 256, (count, 12, 16, 3), np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


def reason_of(media, limits=None):
    with pytest.raises(MediaError) as caught:
        probe(media, limits or MediaLimits())
    assert caught.value.reason in REASONS
    return caught.value.reason


@pytest.fixture
def address():
    """A web address and the requests that reach it."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/part.ts", requests
    server.shutdown()
    server.server_close()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "dash": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        '<AdaptationSet><Representation id="1" mimeType="video/mp4"><BaseURL>{target}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>"
    ),
    "sdp": (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ),
}


@pytest.mark.parametrize("kind", sorted(PLAYLISTS))
@pytest.mark.parametrize("name", ["clip.mp4", "clip.m3u8", "clip.ffconcat"])
def test_a_playlist_reaches_no_address(tmp_path, address, kind, name):
    target, requests = address
    (tmp_path / name).write_text(PLAYLISTS[kind].format(target=target))
    assert reason_of(tmp_path / name) in ("not_video", "unsupported_format")
    assert requests == []


@pytest.mark.parametrize("kind", ["hls", "concat"])
@pytest.mark.parametrize("relative", [True, False])
def test_a_playlist_reaches_no_other_file(tmp_path, media, kind, relative, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real.mp4").write_bytes(media.video(media.grey(3)))
    target = "real.mp4" if relative else str(tmp_path / "real.mp4")
    (tmp_path / "list.mp4").write_text(PLAYLISTS[kind].format(target=target))
    assert reason_of(tmp_path / "list.mp4") in ("not_video", "unsupported_format")
    assert reason_of((tmp_path / "list.mp4").read_bytes()) in ("not_video", "unsupported_format")


def test_what_is_no_media_file_is_told_apart(tmp_path):
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    assert reason_of(tmp_path / "empty.mp4") == reason_of(b"") == "empty_file"
    assert reason_of(tmp_path / "missing.mp4") == "not_a_file"
    assert reason_of(tmp_path / "pipe.mp4") == "not_a_file"
    assert reason_of(tmp_path) == "not_a_file"
    assert reason_of(b"a shopping list\n" * 100) == "not_video"
    assert reason_of(np.random.default_rng(0).bytes(10_000)) == "not_video"


def test_sound_alone_is_no_video(media):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    assert reason_of(buffer.getvalue()) == "no_video_stream"


def test_formats_and_codecs_off_the_list_are_refused(media):
    assert reason_of(media.video(media.grey(3), container="h264")) == "unsupported_format"
    lossless = media.video(media.grey(3), codec="ffv1", container="matroska")
    assert reason_of(lossless) == "unsupported_codec"


def test_a_file_without_frames_is_a_reject(media):
    data = media.video(media.grey(3), muxer={"movflags": "empty_moov"})
    assert reason_of(data[: data.index(b"moof") - 4]) in ("no_frames", "no_video_stream")


def test_damage_is_a_reject_wherever_it_is(media):
    data = media.video(noise(20), muxer={"movflags": "faststart"})
    start = data.index(b"mdat") + 8
    middle = (start + len(data)) // 2
    assert probe(data, MediaLimits()).frames == 20
    assert reason_of(data[:200]) in ("corrupt", "no_video_stream")
    broken = data[:middle] + bytes(200) + data[middle + 200 :]
    assert reason_of(broken) == "corrupt"
    assert reason_of(data[:start]) in ("corrupt", "no_frames")


def test_damage_that_a_decoder_would_paper_over_is_a_reject(media):
    data = media.video(noise(4), codec="mjpeg", container="avi", pixel_format="yuvj420p")
    with open_video(data, MediaLimits()) as video:
        intact = [frame.to_ndarray() for frame, _ in video.frames()]
    rng = np.random.default_rng(0)
    rejected = 0
    for place in rng.integers(6000, len(data) - 1000, 20):
        damaged = data[:place] + rng.bytes(8) + data[place + 8 :]
        try:
            with open_video(damaged, MediaLimits()) as video:
                for (frame, _), known in zip(video.frames(), intact, strict=True):
                    assert np.abs(frame.to_ndarray().astype(int) - known).mean() < 1
        except MediaError as error:
            assert error.reason == "corrupt"
            rejected += 1
    assert rejected > 5


def test_a_frame_that_the_decoder_calls_damaged_is_a_reject(media):
    data = media.video(noise(12))
    rng = np.random.default_rng(0)
    for place in rng.integers(1500, len(data) - 1500, 60):
        damaged = data[:place] + rng.bytes(8) + data[place + 8 :]
        try:
            with av.open(io.BytesIO(damaged)) as container:
                context = container.streams.video[0].codec_context
                context.options, context.thread_count = {"err_detect": "explode"}, 1
                flagged = any([frame.is_corrupt for frame in container.decode(video=0)])
        except av.FFmpegError:
            continue
        if flagged:
            break
    assert flagged
    assert reason_of(damaged) == "corrupt"


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_a_file_that_is_cut_off_never_shows_a_wrong_frame(media, cut):
    data = media.video(noise(20), container="matroska")
    try:
        assert probe(data[: int(cut * len(data))], MediaLimits()).frames < 20
    except MediaError as error:
        assert error.reason == "corrupt"


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("max_bytes", 100, "too_large"),
        ("max_pixels", 64 * 48 - 1, "too_many_pixels"),
        ("max_frames", 19, "too_many_frames"),
        ("max_duration_s", 1.8, "too_long"),
    ],
)
def test_beyond_a_limit_the_reason_names_it(media, limit, value, reason):
    data = media.video(media.grey(20))
    assert reason_of(data, MediaLimits(**{limit: value})) == reason


def test_at_a_limit_a_file_is_accepted(media):
    data = media.video(media.grey(20))
    limits = MediaLimits(max_bytes=len(data), max_pixels=64 * 48, max_frames=20, max_duration_s=1.9)
    assert probe(data, limits).frames == 20


def test_square_pixels_must_fit_the_limit_too(media):
    def widen(stream):
        stream.codec_context.sample_aspect_ratio = 2

    data = media.video(media.grey(3), prepare=widen)
    assert reason_of(data, MediaLimits(max_pixels=64 * 48)) == "too_many_pixels"


def test_a_size_that_grows_behind_the_header_is_caught():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as out:
        stream = out.add_stream("mpeg2video", rate=10)
        stream.width, stream.height = 64, 48
        large = av.CodecContext.create("mpeg2video", "w")
        large.width, large.height, large.pix_fmt = 640, 480, "yuv420p"
        large.framerate, large.time_base = 10, Fraction(1, 10)
        for index in range(20):
            encoder = stream if index < 10 else large
            frame = av.VideoFrame(encoder.width, encoder.height, "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            for packet in encoder.encode(frame):
                packet.stream = stream
                out.mux(packet)
    assert reason_of(buffer.getvalue()) == "size_changes"
    assert reason_of(buffer.getvalue(), MediaLimits(max_pixels=64 * 48)) in REASONS
