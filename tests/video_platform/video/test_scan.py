"""What a scan says of videos whose every look is known."""

import dataclasses
import json

import numpy as np
import pytest

from video_platform.errors import MediaError
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import MediaLimits
from video_platform.video.media import open_video
from video_platform.video.probe import probe
from video_platform.video.scan import Scan, ScanConfig, _even_times, perceptual_hash, scan

LOSSLESS = {"pixel_format": "yuv444p", "crf": "0"}


def scene(seed, count, height=96, width=128):
    """Frames of one scene: large patches that drift slowly."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (height // 16, width // 16 + 8, 3), np.uint8)
    wide = patches.repeat(16, axis=0).repeat(16, axis=1)
    return np.stack([wide[:, k : k + width] for k in range(count)])


def bits_apart(one, other):
    return (int(one, 16) ^ int(other, 16)).bit_count()


@pytest.mark.parametrize("scenes", [False, True])
@pytest.mark.parametrize(
    ("codec", "container", "bf"),
    [
        ("libx264", "mp4", "3"),
        ("libx264", "avi", "2"),
        ("libx264", "mpegts", "2"),
        ("libvpx-vp9", "webm", "0"),
        ("mpeg4", "mp4", "2"),
    ],
)
def test_it_counts_and_measures_what_a_probe_does(media, limits, codec, container, bf, scenes):
    data = media.video(scene(0, 40), codec=codec, container=container, bf=bf)
    info, found = probe(data, limits), scan(data, ScanConfig(scenes=scenes), limits)
    for name in ("frames", "duration_s", "width", "height", "fps", "codec"):
        assert getattr(found, name) == getattr(info, name)
    assert not found.hdr


def test_looks_are_at_even_times_until_the_video_ends(media, limits):
    data = media.video(media.grey(5), ticks=[300, 350, 1000, 1100, 1750], **LOSSLESS)
    found = scan(data, ScanConfig(looks_per_s=5), limits)
    assert [look.time_s for look in found.samples[:8]] == pytest.approx([k / 5 for k in range(8)])
    shown = [round((look.luma - 16) / 4) for look in found.samples[:8]]
    assert shown == [0, 1, 1, 1, 3, 3, 3, 3]
    assert found.samples[-1].time_s < found.duration_s


def test_luma_and_contrast_are_those_of_full_range(media, limits):
    halves = np.zeros((3, 64, 64, 3), np.uint8)
    halves[:, :, 32:] = 255
    look = scan(media.video(halves, **LOSSLESS), ScanConfig(), limits).samples[0]
    assert look.luma == pytest.approx(127.5, abs=2)
    assert look.contrast == pytest.approx(127.5, abs=2)
    black = np.zeros((3, 64, 64, 3), np.uint8)
    assert scan(media.video(black, **LOSSLESS), ScanConfig(), limits).samples[0].luma < 1


def test_motion_is_the_change_to_the_next_look(media, limits):
    levels = np.array([40, 40, 40, 80, 80, 80], np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (6, 64, 64, 3)).copy()
    found = scan(media.video(frames, **LOSSLESS), ScanConfig(looks_per_s=10), limits)
    assert [round(look.motion) for look in found.samples] == [0, 0, 40, 0, 0, 0]


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
def test_cuts_are_found_where_scenes_begin(media, limits, kind):
    frames = np.concatenate([scene(1, 20), scene(2, 15), scene(3, 25)])
    found = scan(media.video(frames, container=kind, bf="2"), ScanConfig(scenes=True), limits)
    assert found.cuts_s == pytest.approx([2.0, 3.5], abs=1e-3)
    assert scan(media.video(frames), ScanConfig(), limits).cuts_s == ()
    assert scan(media.video(scene(1, 60)), ScanConfig(scenes=True), limits).cuts_s == ()


def test_cuts_are_in_presentation_time(media, limits):
    frames = np.concatenate([scene(1, 20), scene(2, 20)])
    ticks = [1000 + 40 * k for k in range(20)] + [1800 + 160 * k for k in range(20)]
    found = scan(media.video(frames, ticks=ticks), ScanConfig(scenes=True), limits)
    assert found.cuts_s == pytest.approx([0.8], abs=1e-3)


def test_a_scene_lasts_as_long_as_is_asked(media, limits):
    frames = np.concatenate([scene(1, 20), scene(2, 3), scene(3, 25)])
    data = media.video(frames)
    found = scan(data, ScanConfig(scenes=True, min_scene_s=0.5), limits)
    assert found.cuts_s == pytest.approx([2.0], abs=1e-3)


def test_what_looks_alike_has_near_hashes(media, limits):
    pictures = {seed: scene(seed, 4, 192, 256) for seed in range(8)}
    hashes = {}
    for seed, frames in pictures.items():
        good = scan(media.video(frames, crf="4"), ScanConfig(), limits).samples[0].hash
        small = np.ascontiguousarray(frames[:, ::2, ::2])
        poor = media.video(small, codec="mpeg4", container="matroska")
        hashes[seed] = good
        assert bits_apart(good, scan(poor, ScanConfig(), limits).samples[0].hash) <= 4
    apart = [
        bits_apart(hashes[one], hashes[other]) for one in hashes for other in hashes if one < other
    ]
    assert min(apart) > 12


def test_a_turned_video_is_looked_at_upright(media, limits):
    frames = scene(4, 3, 128, 128)
    upright = media.video(np.rot90(frames, 1, (1, 2)).copy(), **LOSSLESS)
    turned = media.video(frames, prepare=lambda stream: stream.set_display_rotation(90), **LOSSLESS)
    one, other = (scan(data, ScanConfig(), limits) for data in (upright, turned))
    assert one.samples[0].hash == other.samples[0].hash
    assert (one.width, one.height) == (other.width, other.height)


def test_the_hash_is_about_waves_above_the_median():
    side = 64
    wave = np.cos(np.pi * 3 * (2 * np.arange(side) + 1) / (2 * side))
    flat = np.full((side, side), 90.0)
    assert perceptual_hash(flat) == "0" * 16
    down = perceptual_hash(flat + 40 * wave[:, None])
    across = perceptual_hash(flat + 40 * wave[None, :])
    assert int(down, 16) == 1 << (63 - 3 * 8)
    assert int(across, 16) == 1 << (63 - 3)


def test_frames_that_no_look_meets_are_not_decoded(media, limits):
    data = media.video(scene(0, 60), bf="3", **{"x264-params": "b-adapt=0"})
    config = ScanConfig(looks_per_s=1)
    assert scan(data, config, limits).frames == 60
    with open_video(data, limits, sparing=True) as video:
        picker, decoded = _even_times(config, limits, tick=video.tick), 0
        for _, time in video.frames(picker, jumps=False):
            picker.until(time)
            decoded += 1
    assert decoded < 45
    assert video.feed.num_shown == 60


def test_a_scan_survives_json(media, limits):
    found = scan(media.video(scene(0, 30)), ScanConfig(scenes=True), limits)
    assert Scan.from_json(json.loads(json.dumps(dataclasses.asdict(found)))) == found


def test_a_scan_in_a_process_of_its_own_is_the_same(media, limits):
    frames = np.concatenate([scene(1, 20), scene(2, 20)])
    data, config = media.video(frames), ScanConfig(scenes=True)
    with IsolatedDecoder(limits) as decoder:
        assert decoder.scan(data, config) == scan(data, config, limits)
        with pytest.raises(MediaError, match="not_video"):
            decoder.scan(b"nonsense" * 100, config)


def test_damage_is_a_reject(media, limits):
    data = media.video(scene(0, 40), muxer={"movflags": "faststart"}, bf="0")
    middle = (data.index(b"mdat") + len(data)) // 2
    broken = data[:middle] + bytes(300) + data[middle + 300 :]
    for scenes in (False, True):
        with pytest.raises(MediaError, match="corrupt"):
            scan(broken, ScanConfig(scenes=scenes), limits)


def test_a_single_frame_is_one_look(media, limits):
    found = scan(media.video(media.grey(1)), ScanConfig(scenes=True), limits)
    assert (found.frames, len(found.samples), found.cuts_s) == (1, 1, ())
    assert found.fps == pytest.approx(10)


@pytest.mark.parametrize(
    ("field", "value"),
    [("looks_per_s", 0), ("scene_threshold", float("nan")), ("min_scene_s", -1), ("side", 4)],
)
def test_a_config_that_makes_no_sense_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        ScanConfig(**{field: value})


def test_limits_hold(media):
    data = media.video(media.grey(20))
    for limit, reason in [({"max_frames": 19}, "too_many_frames"), ({"max_duration_s": 1}, "long")]:
        with pytest.raises(MediaError, match=reason):
            scan(data, ScanConfig(scenes=True), MediaLimits(**limit))
