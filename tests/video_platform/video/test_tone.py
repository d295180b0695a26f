"""Tones against the ITU's tables and against a slow conversion, one pixel after the other."""

import io
import math

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from video_platform.errors import MediaError
from video_platform.video.decode import decode
from video_platform.video.policy import PixelPolicy
from video_platform.video.tone import (
    hlg_to_scene,
    light_to_pq,
    pq_to_light,
    roll_off,
    to_standard_range,
)


def test_pq_has_the_values_of_the_standard():
    """BT.2100 table 4 and BT.2408 table 1: signals of 0, 100, 203, 1000 and 10000 cd/m2."""
    light = np.array([0.0, 100.0, 203.0, 1000.0, 10_000.0])
    np.testing.assert_allclose(light_to_pq(light), [0, 0.508, 0.581, 0.752, 1], atol=5e-4)
    signal = np.linspace(0, 1, 50)
    np.testing.assert_allclose(light_to_pq(pq_to_light(signal)), signal, atol=1e-6)


def test_hlg_has_the_values_of_the_standard():
    """BT.2408 table 1: 75% is white of 203 cd/m2 on a display of 1000; 50% is a twelfth."""
    assert 1000 * hlg_to_scene(np.array(0.75)) ** 1.2 == pytest.approx(203, abs=0.5)
    np.testing.assert_allclose(hlg_to_scene(np.array([0.0, 0.5, 1.0])), [0, 1 / 12, 1], atol=1e-6)


def test_light_is_kept_below_the_knee_and_peak_becomes_white():
    dim = np.array([0.0, 0.01, 1.0, 50.0, 80.0])
    np.testing.assert_allclose(roll_off(dim), dim, atol=1e-9)
    np.testing.assert_allclose(roll_off(np.array([1000.0, 4000.0])), [203, 203], rtol=1e-9)
    rising = roll_off(np.linspace(0, 1000, 2000))
    assert (np.diff(rising) > 0).all()
    assert (rising <= np.linspace(0, 1000, 2000) + 1e-9).all()


def slow_pq(signal):
    power = signal ** (4096 * 32 / (2523 * 4096))
    low = max(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)
    return 10_000 * low ** (16384 / 2610)


def slow_hlg(red, green, blue):
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = [
        x * x / 3 if x <= 0.5 else (math.exp((x - c) / a) + b) / 12 for x in (red, green, blue)
    ]
    luma = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
    return [1000 * luma**0.2 * x for x in scene]


def slow(signal, *, hlg):
    """One pixel of R'G'B' from 0 to 1, in double precision."""
    light = slow_hlg(*signal) if hlg else [min(slow_pq(x), 1000) for x in signal]
    largest = max(*light, 1e-9)
    ratio = float(roll_off(np.array(largest))) / largest
    red, green, blue = (x * ratio / 203 for x in light)
    in_709 = (  # BT.2407, 2.2
        1.6605 * red - 0.5876 * green - 0.0728 * blue,
        -0.1246 * red + 1.1329 * green - 0.0083 * blue,
        -0.0182 * red - 0.1006 * green + 1.1187 * blue,
    )
    return [255 * min(max(x, 0), 1) ** (1 / 2.4) for x in in_709]


@pytest.mark.parametrize("hlg", [False, True])
def test_a_picture_is_what_the_formulas_say(hlg):
    rng = np.random.default_rng(0)
    colours = np.concatenate(
        [rng.integers(0, 65536, (300, 3)), np.arange(0, 65536, 4096)[:, None].repeat(3, 1)]
    )
    shown = to_standard_range(colours[:, None].astype(np.uint16), hlg=hlg, wide=True)[:, 0]
    expected = [slow(colour / 65535, hlg=hlg) for colour in colours]
    np.testing.assert_allclose(shown, expected, atol=1.2)


def test_grey_stays_grey_and_narrow_primaries_stay_what_they_are():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None, :, None].repeat(3, axis=2)
    for wide in (False, True):
        shown = to_standard_range(ramp, hlg=False, wide=wide).astype(int)
        assert np.ptp(shown, axis=2).max() <= 1
    red = np.array([[[30000, 0, 0]]], np.uint16)
    assert (to_standard_range(red, hlg=False, wide=False)[..., 1:] == 0).all()


def video(transfer, luma, *, primaries=ColorPrimaries.BT2020, matrix=Colorspace.BT2020):
    """Two frames of one grey in HEVC's 10 bits, tagged; `luma` from 64 to 940."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        options = {"x265-params": "log-level=none:crf=1:bframes=0"}
        stream = out.add_stream("libx265", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        context = stream.codec_context
        context.thread_count = 1
        context.color_trc, context.color_primaries = transfer, primaries
        context.colorspace, context.color_range = matrix, ColorRange.MPEG
        yuv = np.full((72, 64), 512, np.uint16)
        yuv[:48] = luma
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(yuv, format="yuv420p10le")
            frame.pts = index
            frame.color_trc, frame.color_primaries = transfer, primaries
            frame.colorspace, frame.color_range = matrix, ColorRange.MPEG
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return buffer.getvalue()


def policy(hdr):
    return PixelPolicy(frames=1, height=48, width=64, fps=10.0, hdr=hdr)


@pytest.mark.parametrize("transfer", [ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67])
@pytest.mark.parametrize("luma", [64, 300, 572, 723, 940])
def test_a_file_is_mapped_or_refused_as_the_policy_says(limits, transfer, luma):
    data = video(transfer, luma)
    with pytest.raises(MediaError, match="hdr = 'reject'") as caught:
        decode(data, policy=policy("reject"), limits=limits)
    assert caught.value.reason == "hdr"
    clip = decode(data, policy=policy("tonemap"), limits=limits)
    signal = (luma - 64) / 876
    expected = slow([signal] * 3, hlg=transfer == ColorTrc.ARIB_STD_B67)
    np.testing.assert_allclose(clip.frames[0].mean(axis=(0, 1)), expected, atol=2)
    assert clip.backend == "pyav"


def test_standard_range_is_the_same_under_either_policy(limits):
    data = video(ColorTrc.BT709, 500, primaries=ColorPrimaries.BT709, matrix=Colorspace.ITU709)
    one, other = (decode(data, policy=policy(hdr), limits=limits) for hdr in ("reject", "tonemap"))
    np.testing.assert_array_equal(one.frames, other.frames)


@pytest.mark.parametrize("matrix", [8, 10, 14])
def test_a_matrix_that_is_not_converted_is_refused(limits, matrix):
    """YCgCo, BT.2020 with constant luminance, ICtCp."""
    data = video(ColorTrc.BT709, 500, matrix=matrix)
    with pytest.raises(MediaError) as caught:
        decode(data, policy=policy("tonemap"), limits=limits)
    assert caught.value.reason == "unsupported_colour"
