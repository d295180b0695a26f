"""Leaving frames out changes none that stays: every sparing decode against decoding everything."""

import dataclasses
import random
import struct
import zlib

import numpy as np
import pytest

from video_platform.errors import MediaError
from video_platform.video.backends import pick_frames
from video_platform.video.decode import decode
from video_platform.video.feed import CannotSeek
from video_platform.video.limits import MediaLimits
from video_platform.video.media import open_video
from video_platform.video.picking import FramePicker
from video_platform.video.policy import PixelPolicy

FRAMES = 60
KINDS = {
    "h264": {"bf": "3", "g": "12", "x264-params": "b-adapt=0"},
    "h264-pyramid": {"bf": "7", "g": "30", "x264-params": "b-pyramid=normal:b-adapt=0"},
    "h264-fragments": {"bf": "2", "g": "12", "muxer": {"movflags": "frag_keyframe+empty_moov"}},
    "h264-mkv": {"container": "matroska", "bf": "3", "g": "12"},
    "h264-open-gop": {"bf": "3", "g": "12", "x264-params": "open-gop=1"},
    "h264-fields": {"bf": "2", "g": "12", "flags": "+ildct+ilme"},
    "h264-intra": {"g": "1"},
    "hevc": {"codec": "libx265", "x265-params": "log-level=none:keyint=12:bframes=3:open-gop=0"},
    "hevc-open-gop": {"codec": "libx265", "x265-params": "log-level=none:keyint=12:bframes=3"},
    "vp9": {"codec": "libvpx-vp9", "container": "webm", "g": "12", "lag-in-frames": "16"},
    "vp9-mp4": {"codec": "libvpx-vp9", "g": "12"},
    "vp8": {"codec": "libvpx", "container": "webm", "g": "12"},
    "av1": {"codec": "libsvtav1", "g": "12", "preset": "10"},
    "av1-mkv": {"codec": "libsvtav1", "container": "matroska", "g": "12", "preset": "10"},
    "mpeg4": {"codec": "mpeg4", "bf": "2", "g": "12"},
    "mpeg2": {"codec": "mpeg2video", "container": "matroska", "bf": "2", "g": "12"},
}


def moving(count=FRAMES):
    """Frames whose content moves, so that each is coded by looking at others."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (8, 24 + count, 3), np.uint8).repeat(8, 0).repeat(4, 1)
    grain = rng.integers(0, 24, (count, 64, 96, 3), np.uint8)
    return np.stack([scene[:, 3 * k : 3 * k + 96] // 2 + grain[k] for k in range(count)])


@pytest.fixture(scope="module")
def made(media):
    """The videos of `KINDS`, each made when it is first asked for."""
    videos = {}

    def make(kind):
        if kind not in videos:
            videos[kind] = media.video(moving(), **KINDS[kind])
        return videos[kind]

    return make


def picked(data, policy, start_s, *, sparing, limits=None):
    """The frames of a clip, as ticks, checksum of the native planes and repeats; and the feed."""
    with open_video(data, limits or MediaLimits(), sparing=sparing) as video:
        picker = FramePicker(policy, tick=video.tick, start_s=start_s)
        frames = [
            (ticks, zlib.crc32(frame.to_ndarray().tobytes()), repeats)
            for frame, ticks, repeats in pick_frames(video, picker)
        ]
        return frames, video.feed


def a_request(rng):
    """A clip somewhere in the video, from one frame to more than there are."""
    frames, fps = rng.choice([1, 2, 5, 16, 70]), rng.choice([0.5, 1.7, 4.0, 10.0, 24.0])
    policy = PixelPolicy(frames=frames, height=64, width=96, fps=fps, short="repeat_last")
    return policy, rng.choice([0.0, rng.uniform(0, FRAMES / 10 - 0.1)])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sparing_decode_equals_decoding_everything(made, kind, threads):
    rng, limits, jumped = random.Random(kind), MediaLimits(threads=threads), 0
    for _ in range(12):
        policy, start_s = a_request(rng)
        whole, _ = picked(made(kind), policy, start_s, sparing=False, limits=limits)
        spared, feed = picked(made(kind), policy, start_s, sparing=True, limits=limits)
        assert spared == whole
        jumped += feed.jumped
    assert jumped or kind == "h264-fragments"  # whose index comes piece by piece


@pytest.mark.parametrize("container", ["avi", "mpegts"])
def test_a_container_without_an_index_is_read_from_its_start(media, container):
    data = media.video(moving(), container=container, bf="2", g="12")
    policy = PixelPolicy(frames=5, height=64, width=96, fps=5.0)
    with pytest.raises(CannotSeek, match="no index"):
        picked(data, policy, 2.0, sparing=True)
    clip = decode(data, policy=policy, limits=MediaLimits(), start_s=2.0)
    plain = decode(data, policy=dataclasses.replace(policy, frames=15), limits=MediaLimits())
    assert clip.from_start
    np.testing.assert_array_equal(clip.frames, plain.frames[10:])


def decoded(data, policy, start_s=0.0):
    """How many frames come out of the decoder for a clip."""
    with open_video(data, MediaLimits(), sparing=True) as video:
        picker, count = FramePicker(policy, tick=video.tick, start_s=start_s), 0
        for _, ticks in video.frames(picker):
            picker.until(ticks)
            count += 1
            if picker.full:
                break
        return count


def test_what_no_moment_shows_and_no_frame_needs_is_not_decoded(made):
    policy = PixelPolicy(frames=4, height=64, width=96, fps=1.0)
    assert decoded(made("h264"), policy, start_s=1.0) <= 26  # of 41, 20 of them referred to
    assert decoded(made("h264-pyramid"), policy, start_s=1.0) <= 22  # of 41, 12 referred to
    assert decoded(made("hevc"), policy, start_s=1.0) >= 38


def test_a_late_clip_costs_what_an_early_one_costs(made):
    policy = PixelPolicy(frames=3, height=64, width=96, fps=10.0)
    for kind in ("h264", "h264-mkv", "hevc", "vp9", "av1"):
        assert decoded(made(kind), policy, start_s=4.9) <= 16


def test_a_clip_from_the_start_is_read_once(made):
    policy = PixelPolicy(frames=8, height=64, width=96, fps=10.0)
    _, feed = picked(made("h264"), policy, 0.0, sparing=True)
    assert not feed.jumped
    assert feed.rounds == 1


@pytest.mark.parametrize("kind", ["h264", "hevc", "vp9-mp4", "mpeg4", "av1"])
def test_a_container_that_marks_every_frame_is_not_believed(made, kind):
    """Without `stss` all samples of an mp4 file count as key frames."""
    assert b"stss" in made(kind)
    data = made(kind).replace(b"stss", b"free")
    rng = random.Random(0)
    for _ in range(8):
        policy, start_s = a_request(rng)
        whole, _ = picked(data, policy, start_s, sparing=False)
        try:
            assert picked(data, policy, start_s, sparing=True)[0] == whole
        except CannotSeek as error:
            assert "key frames" in str(error)
        clip = decode(data, policy=policy, limits=MediaLimits(), start_s=start_s)
        assert [clip.pts_s.count(time) for time in dict.fromkeys(clip.pts_s)] == [
            repeats for _, _, repeats in whole
        ]


def test_frames_that_an_edit_list_hides_stay_hidden(made):
    data = bytearray(made("h264"))
    place = data.index(b"elst") + 16
    (media_time,) = struct.unpack(">I", data[place : place + 4])
    timescale = struct.unpack(">I", data[(at := data.index(b"mdhd") + 16) : at + 4])[0]
    data[place : place + 4] = struct.pack(">I", media_time + timescale * 3 // 10)
    data = bytes(data)
    policy = PixelPolicy(frames=5, height=64, width=96, fps=10.0)
    with pytest.raises(CannotSeek, match="hidden"):
        picked(data, policy, 0.0, sparing=True)
    for start_s in (0.0, 0.4, 3.0):
        edited = decode(data, policy=policy, limits=MediaLimits(), start_s=start_s)
        whole = decode(made("h264"), policy=policy, limits=MediaLimits(), start_s=start_s + 0.3)
        np.testing.assert_array_equal(edited.frames, whole.frames)


def test_key_frames_that_later_frames_look_behind_are_read_from_the_start(media):
    policy = PixelPolicy(frames=5, height=64, width=96, fps=10.0)
    data = media.video(moving(), bf="3", g="4", **{"x264-params": "open-gop=1"})
    with pytest.raises(CannotSeek, match="no points from which decoding may begin"):
        picked(data, policy, 5.0, sparing=True)
    clip = decode(data, policy=policy, limits=MediaLimits(), start_s=5.0)
    assert clip.from_start
    assert clip.pts_s == pytest.approx([5.0, 5.1, 5.2, 5.3, 5.4], abs=1e-3)
    plain = decode(data, policy=dataclasses.replace(policy, frames=55), limits=MediaLimits())
    np.testing.assert_array_equal(clip.frames, plain.frames[50:])


@pytest.mark.parametrize("kind", ["h264", "h264-mkv", "hevc", "vp9", "av1"])
def test_damage_never_makes_a_sparing_decode_differ(made, kind):
    """What reading everything accepts is read sparingly with the same frames."""
    rng, accepted = random.Random(kind), 0
    for _ in range(30):
        data, policy = bytearray(made(kind)), PixelPolicy(frames=4, height=64, width=96, fps=5.0)
        for _ in range(rng.choice([1, 4])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        start_s = rng.uniform(0, 5)
        try:
            whole, _ = picked(bytes(data), policy, start_s, sparing=False)
        except MediaError:
            continue
        accepted += 1
        try:
            spared, _ = picked(bytes(data), policy, start_s, sparing=True)
        except CannotSeek:
            continue
        except MediaError as error:
            assert error.reason == "corrupt"
            continue
        assert spared == whole
    assert accepted
