"""Clips: the right frames in the right colours, whatever decodes them."""

import dataclasses
import importlib.util
import io

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from video_platform.errors import ConfigError, MediaError
from video_platform.video.backends import BACKENDS, why_not_decord
from video_platform.video.decode import decode
from video_platform.video.media import open_video

needs_decord = pytest.mark.skipif(
    importlib.util.find_spec("decord") is None, reason="decord has wheels for x86-64 Linux only"
)
each_backend = pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=needs_decord if name == "decord" else ()) for name in BACKENDS],
)
QUADRANTS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)


def quadrants(count=3, size=64):
    """Red and green above blue and white."""
    picture = QUADRANTS.repeat(size // 2, axis=0).repeat(size // 2, axis=1)
    return np.broadcast_to(picture, (count, *picture.shape)).copy()


def corners(frame):
    """The colours in the middle of the four quadrants, snapped to pure ones."""
    height, width = frame.shape[:2]
    middle = frame[[height // 4, 3 * height // 4]][:, [width // 4, 3 * width // 4]]
    return np.where(middle > 127, 255, 0).astype(np.uint8)


def changed(policy, **values):
    return dataclasses.replace(policy, **values)


@each_backend
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_frames_come_at_the_asked_rate(media, policy, limits, backend, container):
    data = media.video(media.grey(20), container=container, bf="2")
    clip = decode(data, policy=changed(policy, frames=9, fps=5.0), limits=limits, backend=backend)
    assert media.seen(clip.frames) == list(range(0, 18, 2))
    assert clip.pts_s == pytest.approx([k / 5 for k in range(9)], abs=1e-3)
    assert (clip.fps, clip.backend) == (5.0, backend)


@each_backend
def test_a_variable_rate_shows_what_is_on_screen(media, policy, limits, backend):
    data = media.video(media.grey(5), ticks=[300, 350, 1000, 1100, 1750])
    clip = decode(data, policy=changed(policy, frames=8, fps=5.0), limits=limits, backend=backend)
    assert media.seen(clip.frames) == [0, 1, 1, 1, 3, 3, 3, 3]


def test_avi_frames_come_in_their_order(media, policy, limits):
    data = media.video(media.grey(25), container="avi", bf="2")
    clip = decode(data, policy=changed(policy, frames=25), limits=limits)
    assert media.seen(clip.frames) == list(range(25))


@each_backend
def test_a_short_video_is_rejected_or_held(media, policy, limits, backend):
    data = media.video(media.grey(3))
    with pytest.raises(MediaError) as caught:
        decode(data, policy=policy, limits=limits, backend=backend)
    assert caught.value.reason == "too_short"
    held = changed(policy, short="repeat_last")
    clip = decode(data, policy=held, limits=limits, backend=backend)
    assert media.seen(clip.frames) == [0, 1, 2, 2, 2]


def test_decoding_stops_when_the_clip_is_full(media, policy, limits):
    """Damage behind the last frame that is needed goes unseen; `probe` would see it."""
    rng = np.random.default_rng(0)
    data = media.video(
        rng.integers(0, 256, (40, 96, 128, 3), np.uint8),
        muxer={"movflags": "faststart"},
        bf="0",
        g="5",
    )
    broken = data[:-2000] + bytes(2000)
    whole = decode(data, policy=policy, limits=limits)
    np.testing.assert_array_equal(decode(broken, policy=policy, limits=limits).frames, whole.frames)
    with pytest.raises(MediaError):
        decode(broken, policy=changed(policy, frames=40), limits=limits)


@pytest.mark.parametrize(
    ("degrees", "turns"), [(0, 0), (90, 1), (180, 2), (270, 3)], ids=lambda value: str(value)
)
def test_a_turned_video_stands_upright(media, policy, limits, degrees, turns):
    data = media.video(quadrants(), prepare=lambda stream: stream.set_display_rotation(degrees))
    clip = decode(data, policy=changed(policy, frames=1, height=32, width=32), limits=limits)
    np.testing.assert_array_equal(corners(clip.frames[0]), np.rot90(QUADRANTS, turns))


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv444p", "yuv422p"])
def test_other_pixel_formats_have_the_same_colours(media, policy, limits, pixel_format):
    data = media.video(quadrants(), pixel_format=pixel_format)
    clip = decode(data, policy=changed(policy, frames=1), limits=limits)
    np.testing.assert_array_equal(corners(clip.frames[0]), QUADRANTS)


def planes(matrix, colour_range, value=(120, 100, 170), size=(64, 48), codec="libx264"):
    """A video of one exact YUV colour, tagged as asked."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream(codec, rate=10, options={"crf": "1"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if matrix:
            stream.codec_context.colorspace = matrix
        if colour_range:
            stream.codec_context.color_range = colour_range
        yuv = np.empty((size[1] * 3 // 2, size[0]), np.uint8)
        yuv[: size[1]] = value[0]
        yuv[size[1] : size[1] * 5 // 4] = value[1]
        yuv[size[1] * 5 // 4 :] = value[2]
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(yuv, format="yuv420p")
            frame.pts = index
            if colour_range:
                frame.color_range = colour_range
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return buffer.getvalue()


def expected_rgb(kr, kb, *, full, value=(120, 100, 170)):
    """ITU-R BT.601 and BT.709, section 3: from Y'CbCr to R'G'B'."""
    y, cb, cr = value[0], value[1] - 128, value[2] - 128
    if not full:
        y, cb, cr = (y - 16) * 255 / 219, cb * 255 / 224, cr * 255 / 224
    kg = 1 - kr - kb
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return red, (y - kr * red - kb * blue) / kg, blue


BT601, BT709 = (0.299, 0.114), (0.2126, 0.0722)


@each_backend
@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("tag", "weights"), [(None, BT601), (Colorspace.ITU601, BT601), (Colorspace.ITU709, BT709)]
)
def test_matrix_and_range_are_those_of_the_standard(
    policy, limits, backend, codec, full, tag, weights
):
    data = planes(tag, ColorRange.JPEG if full else None, codec=codec)
    clip = decode(data, policy=changed(policy, frames=1), limits=limits, backend=backend)
    np.testing.assert_allclose(
        clip.frames[0].mean(axis=(0, 1)), expected_rgb(*weights, full=full), atol=2
    )


@pytest.mark.parametrize(
    ("untagged", "size", "weights"),
    [
        ("bt601", (1280, 720), BT601),
        ("bt709", (64, 48), BT709),
        ("by_size", (64, 48), BT601),
        ("by_size", (1280, 720), BT709),
    ],
)
def test_the_policy_says_which_matrix_an_untagged_video_has(
    policy, limits, untagged, size, weights
):
    data = planes(None, None, size=size)
    clip = decode(data, policy=changed(policy, frames=1, untagged=untagged), limits=limits)
    np.testing.assert_allclose(
        clip.frames[0].mean(axis=(0, 1)), expected_rgb(*weights, full=False), atol=2
    )


@needs_decord
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_both_backends_give_the_same_bits(media, policy, limits, codec, pixel_format):
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), np.uint8)
    data = media.video(noise, codec=codec, pixel_format=pixel_format, **quiet)
    one, other = (
        decode(data, policy=policy, limits=limits, backend=name) for name in ("decord", "pyav")
    )
    np.testing.assert_array_equal(one.frames, other.frames)
    assert one.pts_s == other.pts_s


@needs_decord
@pytest.mark.parametrize(
    ("why", "options"),
    [
        ("yuv420p10le", {"pixel_format": "yuv420p10le"}),
        ("av1", {"codec": "libsvtav1"}),
        ("neither MP4 nor Matroska", {"container": "avi"}),
        ("turned", {"prepare": lambda stream: stream.set_display_rotation(90)}),
    ],
)
def test_decord_is_refused_what_it_gets_wrong(media, policy, limits, why, options):
    data = media.video(media.grey(6, 64, 64), **options)
    assert decode(data, policy=policy, limits=limits).backend == "pyav"
    with pytest.raises(ValueError, match=why):
        decode(data, policy=policy, limits=limits, backend="decord")


@needs_decord
def test_decord_is_not_trusted_with_a_file_that_is_cut_off(media, policy, limits):
    noise = np.random.default_rng(0).integers(0, 256, (20, 96, 128, 3), np.uint8)
    data = media.video(noise, muxer={"movflags": "faststart"})
    with open_video(data[:-5000], limits) as video:
        assert why_not_decord(video, policy) == "it is cut off"


def test_an_unknown_backend_lists_the_known(media, policy, limits):
    with pytest.raises(ConfigError, match=r"unknown backend 'gpu'; known: decord, pyav"):
        decode(media.video(media.grey(6)), policy=policy, limits=limits, backend="gpu")


def test_threads_change_no_pixel(media, policy, limits):
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), np.uint8)
    data = media.video(noise)
    one, two = (
        decode(data, policy=policy, limits=dataclasses.replace(limits, threads=count))
        for count in (1, 2)
    )
    np.testing.assert_array_equal(one.frames, two.frames)
