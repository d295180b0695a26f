"""Images are videos of one frame, and turned as their EXIF data says."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from video_platform.errors import MediaError
from video_platform.video.decode import decode
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy
from video_platform.video.probe import probe

LIMITS = MediaLimits()
POLICY = PixelPolicy(frames=1, height=32, width=48, fps=8.0)


def picture(height=32, width=48):
    smooth = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    return Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC)


def packed(image, form, turn=None, **options):
    exif = Image.Exif()
    if turn is not None:
        exif[0x0112] = turn
    data = io.BytesIO()
    image.save(data, form, exif=exif, **options)
    return data.getvalue()


@pytest.mark.parametrize(("form", "options"), [("png", {}), ("webp", {"lossless": True})])
@pytest.mark.parametrize("turn", [None, *range(1, 9)])
def test_an_image_is_shown_as_pillow_shows_it(form, options, turn):
    image = picture(*((32, 48) if (turn or 1) < 5 else (48, 32)))
    data = packed(image, form, turn, **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    clip = decode(data, policy=POLICY, limits=LIMITS)
    assert np.array_equal(clip.frames[0], upright)


@pytest.mark.parametrize("turn", [None, 3, 6])
def test_a_jpeg_is_shown_as_pillow_shows_it(turn):
    image = picture(*((32, 48) if turn != 6 else (48, 32)))
    data = packed(image, "jpeg", turn, quality=95, subsampling=0)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    clip = decode(data, policy=POLICY, limits=LIMITS)
    assert np.abs(clip.frames[0].astype(int) - upright).max() <= 3


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "1"])
def test_other_kinds_of_pixels_become_rgb(mode):
    if mode == "I;16":
        image = Image.fromarray((np.arange(32 * 48).reshape(32, 48) * 40).astype(np.uint16))
        expected = np.arange(32 * 48).reshape(32, 48) * 40 >> 8
        expected = expected[..., None].repeat(3, 2)
    else:
        image = picture().convert(mode)
        expected = np.asarray(image.convert("RGB"), int)
    clip = decode(packed(image, "png"), policy=POLICY, limits=LIMITS)
    assert np.abs(clip.frames[0] - expected).max() <= 1


def test_an_image_has_one_frame_and_a_size_as_displayed():
    info = probe(packed(picture(), "jpeg", 6), LIMITS)
    assert (info.frames, info.width, info.height, info.codec) == (1, 32, 48, "mjpeg")
    assert info.rotation == 90


def test_an_image_is_no_clip_of_more_frames_unless_it_is_repeated():
    data = packed(picture(), "png")
    with pytest.raises(MediaError, match="too_short"):
        decode(data, policy=POLICY.at(POLICY.size._replace(frames=5)), limits=LIMITS)


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_cut_off_image_is_refused(form):
    data = packed(picture(256, 256), form, 6)
    with pytest.raises(MediaError) as caught:
        decode(data[: len(data) // 2], policy=POLICY, limits=LIMITS)
    assert caught.value.reason in ("corrupt", "no_frames")


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded():
    data = packed(Image.new("RGB", (3000, 3000)), "png")
    with (
        IsolatedDecoder(MediaLimits(max_pixels=1000)) as decoder,
        pytest.raises(MediaError, match=r"3000 x 3000, max_pixels = 1000"),
    ):
        decoder.probe(data)
