"""Files that we write: the same bytes each time, readable everywhere, and what they say."""

import io

import numpy as np
import pytest
from PIL import Image

from video_platform.video.decode import decode
from video_platform.video.encode import contact_sheet, encode_mp4, read_mp4_metadata, write_mp4
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy
from video_platform.video.probe import probe

METADATA = {
    "title": "a red square moves right",
    "comment": "generated",
    "model": "tiny-1",
    "seed": "7",
    "prompt": 'ünï"code"\nand = lines',
}


def a_square(count=9, size=32):
    frames = np.zeros((count, size, size, 3), np.uint8)
    for index in range(count):
        frames[index, 8:20, 2 * index : 2 * index + 12] = (255, 0, 0)
    return frames


def test_equal_frames_give_equal_bytes():
    first, second = (encode_mp4(a_square(), fps=8, metadata=METADATA) for _ in range(2))
    assert first == second


def test_metadata_come_back_word_for_word(tmp_path):
    write_mp4(tmp_path / "clip.mp4", a_square(), fps=8, metadata=METADATA)
    assert read_mp4_metadata(tmp_path / "clip.mp4") == METADATA
    write_mp4(tmp_path / "bare.mp4", a_square(), fps=8)
    assert read_mp4_metadata(tmp_path / "bare.mp4") == {}


@pytest.mark.parametrize("fps", [8, 12.5, 30_000 / 1001])
def test_the_rate_and_the_count_are_kept(fps):
    info = probe(encode_mp4(a_square(), fps=fps), MediaLimits())
    assert (info.frames, info.width, info.height, info.codec) == (9, 32, 32, "h264")
    assert info.pixel_format == "yuv420p"
    assert info.fps == pytest.approx(fps, rel=1e-4)


def test_small_shapes_survive():
    policy = PixelPolicy(frames=9, height=32, width=32, fps=8.0)
    frames = a_square()
    data = encode_mp4(frames, fps=8, crf=8)
    read = decode(data, policy=policy, limits=MediaLimits()).frames
    assert np.abs(read.astype(int) - frames).mean() < 2
    np.testing.assert_allclose(read[4, 14, 14], (255, 0, 0), atol=4)


def test_a_lower_crf_is_closer():
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    assert len(encode_mp4(noise, fps=8, crf=4)) > len(encode_mp4(noise, fps=8, crf=30))


@pytest.mark.parametrize(
    ("frames", "options", "words"),
    [
        (np.zeros((3, 32, 32, 3), np.float32), {}, r"float32 \(3, 32, 32, 3\); give uint8"),
        (np.zeros((3, 3, 32, 32), np.uint8), {}, "give uint8"),
        (np.zeros((0, 32, 32, 3), np.uint8), {}, "give uint8"),
        (np.zeros((3, 32, 33, 3), np.uint8), {}, "frames of 33 x 32; yuv420p takes even sizes"),
        (np.zeros((3, 32, 32, 3), np.uint8), {"crf": 60}, "crf = 60; it goes from 0"),
        (np.zeros((3, 32, 32, 3), np.uint8), {"fps": 0}, "fps = 0; it must be a number above 0"),
    ],
)
def test_what_cannot_be_encoded_is_said(frames, options, words):
    with pytest.raises(ValueError, match=words):
        encode_mp4(frames, **{"fps": 8, **options})


def test_a_contact_sheet_has_a_row_for_each_clip():
    clips = [a_square(9), a_square(3, size=64)]
    sheet = Image.open(io.BytesIO(contact_sheet(clips, labels=["one", "two"], columns=5)))
    assert sheet.format == "PNG"
    assert sheet.width == 4 + 5 * (64 + 4)
    assert sheet.height == 4 + 2 * (13 + 4 + 64 + 4)


def test_a_contact_sheet_shows_first_and_last_frame():
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet([a_square(9)], columns=2))))
    first, last = sheet[4:68, 4:68], sheet[4:68, 72:136]
    np.testing.assert_array_equal(first[::2, ::2], a_square(9)[0])
    np.testing.assert_array_equal(last[::2, ::2], a_square(9)[-1])


@pytest.mark.parametrize(("clips", "labels"), [([], None), ([a_square()], ["a", "b"])])
def test_a_contact_sheet_of_nothing_is_refused(clips, labels):
    with pytest.raises(ValueError, match="give at least one clip"):
        contact_sheet(clips, labels=labels)
