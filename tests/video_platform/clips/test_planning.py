"""Where clips begin and end, which bucket each goes to, and what is left out."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.video_platform.clips.made import POLICY, image, plan, record, scan
from video_platform.clips.config import Bucket, ClipsConfig
from video_platform.clips.filter_config import MinLength
from video_platform.clips.planning import plan_clips
from video_platform.clips.scans import Refusal
from video_platform.video.policy import ClipSize

WIDE = Bucket(frames=(17,), height=64, width=112)
SQUARE = Bucket(frames=(17,), height=64, width=64)
TALL = Bucket(frames=(17,), height=112, width=64)


def starts(planned):
    return [(item.start_s, item.reason) for item in planned]


def sizes(planned):
    return [item.size for item in planned]


def test_a_whole_video_is_one_clip_that_is_called_like_it():
    [clip] = plan(scan(10.0))
    assert clip.record == record("0", size=ClipSize(17, 64, 64))
    assert (clip.shown_s, clip.reason) == (2.125, "")


def test_windows_touch_and_the_rest_goes_to_a_shorter_bucket():
    buckets = (Bucket(frames=(17, 9), height=64, width=64),)
    clips = plan(scan(7.0), cut="windows", buckets=buckets)
    assert starts(clips) == [(0.0, ""), (2.125, ""), (4.25, ""), (6.375, "left_over")]
    clips = plan(scan(7.6), cut="windows", buckets=buckets)
    assert [item.size.frames for item in clips] == [17, 17, 17, 9]
    assert [item.id for item in clips][:2] == ["0#t=0.000", "0#t=2.125"]
    assert clips[1].record.file == "0"
    assert clips[1].record.start_s == 2.125


def test_windows_may_overlap_and_stop_when_one_reaches_the_end():
    clips = plan(scan(9.0), cut="windows", window_s=4.0, stride_s=2.0)
    assert starts(clips) == [(0.0, ""), (2.0, ""), (4.0, ""), (6.0, "")]
    assert clips[-1].seconds == 3.0
    assert clips[0].seconds - clips[0].shown_s == 4.0 - 2.125


def test_no_clip_shows_a_cut():
    found = scan(12.0, cuts_s=(3.0, 3.9, 8.26))
    clips = plan(found, cut="scenes")
    assert starts(clips) == [
        (0.0, ""),
        (2.125, "left_over"),
        (3.0, "too_short"),
        (3.9, ""),
        (6.025, ""),
        (8.15, "left_over"),
        (8.26, ""),
        (10.385, "left_over"),
    ]
    for clip in clips:
        last = clip.start_s + 16 / 8
        assert clip.reason or not any(clip.start_s < cut <= last + 0.001 for cut in found.cuts_s)


def test_a_short_video_is_rejected_or_its_last_frame_is_repeated():
    assert plan(scan(1.5))[0].reason == "too_short"
    policy = dataclasses.replace(POLICY, short="repeat_last")
    [clip] = plan(scan(1.5), policy=policy)
    assert (clip.reason, clip.shown_s, clip.repeated_s) == ("", 1.5, 0.625)
    clips = plan(scan(6.0, cuts_s=(1.0,)), policy=policy, cut="scenes")
    assert clips[0].reason == "too_short", "a scene would go on into the next one"


def test_the_last_frame_counts_as_the_decoder_counts_it():
    assert plan(scan(2.0))[0].reason == "too_short"
    assert plan(scan(2.003))[0].reason == ""


@pytest.mark.parametrize(
    ("width", "height", "bucket"),
    [(1280, 720, WIDE), (720, 1280, TALL), (500, 500, SQUARE), (600, 480, SQUARE), (4, 3, None)],
)
def test_the_bucket_that_crops_least_is_taken(width, height, bucket):
    [clip] = plan(scan(5.0, width=width, height=height), buckets=(WIDE, SQUARE, TALL))
    if bucket is None:
        assert (clip.reason, clip.size) == ("too_small", None)
    else:
        assert clip.size == bucket.sizes[0]
        assert 0 <= clip.cropped < 0.3


def test_crops_are_the_share_of_the_picture_that_is_cut_off():
    [clip] = plan(scan(5.0, width=200, height=100), buckets=(SQUARE,))
    assert clip.cropped == 0.5


def test_of_buckets_that_crop_alike_the_largest_that_need_not_be_enlarged_is_taken():
    large = Bucket(frames=(17,), height=144, width=256)
    buckets = (WIDE, large)
    assert plan(scan(5.0, width=1280, height=720), buckets=buckets)[0].size == large.sizes[0]
    assert plan(scan(5.0, width=160, height=90), buckets=buckets)[0].size == WIDE.sizes[0]
    [clip] = plan(scan(5.0, width=160, height=90), buckets=buckets, max_enlarge=2.0)
    assert clip.size == large.sizes[0]


def test_images_go_to_buckets_of_one_frame_and_videos_to_longer_ones():
    both = (Bucket(frames=(1, 17), height=64, width=64),)
    assert [size.frames for size in sizes(plan(image(), scan(5.0), buckets=both))] == [1, 17]
    assert plan(scan(1.0), buckets=both)[0].reason == "too_short"
    assert plan(image())[0].reason == "one_frame"
    stills = (Bucket(frames=(1,), height=64, width=64),)
    assert [size.frames for size in sizes(plan(image(), scan(5.0), buckets=stills))] == [1, 1]
    [cut] = plan(image(), buckets=stills, cut="windows")
    assert cut.id == "0"


def test_a_file_that_cannot_be_read_is_one_reject_with_its_reason():
    refusal = Refusal(reason="corrupt", error="its data are damaged", limits="")
    [item] = plan_clips([(record("0"), refusal)], ClipsConfig(), POLICY)
    assert (item.reason, item.detail, item.seconds) == ("corrupt", "its data are damaged", 0.0)


def test_high_dynamic_range_is_left_out_where_the_policy_maps_no_tones():
    found = scan(5.0, hdr=True)
    assert [(item.reason, item.seconds) for item in plan(found)] == [("hdr", 5.0)]
    policy = dataclasses.replace(POLICY, hdr="tonemap")
    assert plan(found, policy=policy)[0].reason == ""


@given(
    duration=st.floats(0.1, 60),
    cuts=st.lists(st.floats(0.1, 59), max_size=4, unique=True),
    cut=st.sampled_from(["whole", "windows", "scenes"]),
    window=st.one_of(st.none(), st.floats(0.5, 10)),
)
def test_every_moment_of_a_video_is_in_exactly_one_piece(duration, cuts, cut, window):
    found = scan(duration, cuts_s=sorted(c for c in cuts if c < duration - 0.1))
    window_s = None if cut == "whole" else window
    pieces = plan(found, cut=cut, window_s=window_s, filters=(MinLength(seconds=1.0),))
    assert len({item.id for item in pieces}) == len(pieces)
    end = 0.0
    for item in pieces:
        assert item.start_s == pytest.approx(end, abs=3e-3)
        end = item.start_s + item.seconds
        assert item.shown_s <= item.seconds
    assert end == pytest.approx(duration, abs=3e-3)


def test_a_plan_does_not_depend_on_files_after_it():
    one, two = scan(5.0, seed=1), scan(9.0, seed=2)
    assert plan(one, two, cut="windows")[: len(plan(one, cut="windows"))] == plan(
        one, cut="windows"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window_s": 2.0}, "no meaning for cut: whole"),
        ({"cut": "windows", "stride_s": 0.0}, "stride_s = 0.0"),
        ({"buckets": (SQUARE, SQUARE)}, "17x64x64 twice"),
        ({"max_enlarge": float("nan")}, "max_enlarge = nan"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        ClipsConfig(**changes)
