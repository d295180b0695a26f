"""Each filter refuses what it says, and nothing else."""

import dataclasses
import itertools
import random

import pytest

from tests.video_platform.clips.made import image, looks, plan, record, scan
from video_platform.clips.config import Bucket, ClipsConfig
from video_platform.clips.duplicates import DuplicateIndex
from video_platform.clips.filter_config import (
    Blank,
    MaxLength,
    MinLength,
    MinMotion,
    MinSize,
    NearDuplicate,
    NoCaption,
    Static,
)
from video_platform.clips.filters import FILTERS, MEANINGS
from video_platform.clips.planning import plan_clips
from video_platform.config import load_recipe
from video_platform.errors import ConfigError

BOTH = (Bucket(frames=(1, 17), height=64, width=64),)


def reasons(*scans, filters, **config):
    return [item.reason for item in plan(*scans, filters=filters, buckets=BOTH, **config)]


@pytest.mark.parametrize(
    ("filter", "refused", "taken"),
    [
        (MinSize(pixels=100), scan(5.0, width=300, height=99), scan(5.0, width=100, height=300)),
        (MinLength(seconds=4.0), scan(3.9), scan(4.0)),
        (MaxLength(seconds=4.0), scan(4.1), scan(4.0)),
        (MinMotion(change=2.0), scan(5.0, motion=1.9), scan(5.0, motion=2.0)),
        (Static(), scan(5.0, motion=0.2), scan(5.0, motion=0.3)),
        (Blank(), scan(5.0, contrast=4.9), scan(5.0, luma=8.0, contrast=18.0)),
    ],
)
def test_a_filter_refuses_what_it_says(filter, refused, taken):
    assert reasons(refused, taken, filters=(filter,)) == [filter.kind, ""]


def test_images_do_not_move_and_do_not_last():
    filters = (MinMotion(change=2.0), Static(), MinLength(seconds=2.0))
    assert reasons(image(motion=0.0), filters=filters) == [""]


def test_motion_is_judged_within_the_clip_and_not_beyond():
    quiet = [*looks(2.0, motion=0.1), *looks(2.0, motion=9.0)]
    samples = [
        type(look)(**{**vars(look), "time_s": place / 2}) for place, look in enumerate(quiet)
    ]
    found = scan(4.0, samples=samples)
    assert reasons(found, filters=(MinMotion(change=1.0),)) == ["min_motion"]
    assert reasons(found, filters=(MinMotion(change=1.0),), cut="windows", window_s=2.125) == [
        "min_motion",
        "left_over",
    ]


def test_missing_captions_are_refused():
    scanned = [(record("a"), scan(5.0)), (record("b", caption=None), scan(5.0))]
    config = ClipsConfig(filters=(NoCaption(),))
    policy = plan.__globals__["POLICY"]
    assert [item.reason for item in plan_clips(scanned, config, policy)] == ["", "no_caption"]


def test_the_first_filter_that_refuses_is_the_reason():
    dark = scan(5.0, contrast=1.0, motion=0.0)
    assert reasons(dark, filters=(Blank(), Static())) == ["blank"]
    assert reasons(dark, filters=(Static(), Blank())) == ["static"]


def test_near_duplicates_keep_the_first_and_count_only_what_passed_before():
    same = [scan(5.0, seed=1), scan(5.0, seed=2), scan(7.0, seed=1)]
    assert reasons(*same, filters=(NearDuplicate(),)) == ["", "", "near_duplicate"]
    dark = scan(5.0, seed=1, contrast=1.0)
    assert reasons(dark, *same, filters=(Blank(), NearDuplicate())) == [
        "blank",
        "",
        "",
        "near_duplicate",
    ]


def test_clips_of_one_file_are_compared_only_when_asked_for():
    still = [dataclasses.replace(look, hash="0" * 16) for look in looks(10.0)]
    found = [scan(10.0, samples=still), scan(3.0, samples=still)]
    options = {"cut": "windows", "window_s": 2.5}
    kept = reasons(*found, filters=(NearDuplicate(),), **options)
    assert kept == ["", "", "", "", "near_duplicate", "left_over"]
    kept = reasons(*found, filters=(NearDuplicate(same_file=True),), **options)
    assert kept == ["", *["near_duplicate"] * 4, "left_over"]


def test_images_and_videos_are_never_duplicates_of_each_other():
    found = [scan(5.0, samples=looks(0.5)), image(samples=looks(0.5))]
    assert reasons(*found, filters=(NearDuplicate(),)) == ["", ""]


def flip(signature, bits, draw):
    for bit in draw.sample(range(64), bits):
        signature ^= 1 << bit
    return signature


@pytest.mark.parametrize("bits", [0, 1, 4, 8])
def test_the_index_finds_what_comparing_all_pairs_finds(bits):
    draw = random.Random(bits)
    base = [[draw.getrandbits(64) for _ in range(3)] for _ in range(40)]
    items = [
        [flip(picture, draw.randint(0, 2 * bits), draw) for picture in draw.choice(base)]
        for _ in range(400)
    ]
    index, kept = DuplicateIndex(bits), []
    for item in items:
        slow = any(
            sum((a ^ b).bit_count() for a, b in zip(item, other, strict=True)) <= 3 * bits
            for other in kept
        )
        assert index.meets([f"{picture:016x}" for picture in item], str(len(kept))) == slow
        if not slow:
            kept.append(item)
    assert 0 < len(kept) < len(items)


def test_the_index_does_not_compare_all_pairs():
    class Counted(dict):
        compared = 0

        def get(self, key, default=()):
            found = super().get(key, default)
            self.compared += len(found)
            return found

    draw = random.Random(0)
    index = DuplicateIndex(4)
    index._known = Counted()
    count = 2000
    for place in range(count):
        assert not index.meets([f"{draw.getrandbits(64):016x}" for _ in range(3)], str(place))
    assert index._known.compared < count**2 / 2 / 1000


def test_every_filter_has_a_judgement_and_a_meaning():
    assert set(FILTERS) == set(MEANINGS)
    assert all(MEANINGS.values())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("filters=[{kind: min_motion, chnge: 1.0}]", "chnge"),
        ("filters=[{kind: min_motoin}]", "min_motion"),
        ("filters=[{kind: min_motion}]", "change is missing"),
        ("filters=[{kind: near_duplicate, bits: 60}]", "bits = 60"),
        ("filters=[{pixels: 60}]", "kind"),
        ("buckets=[{frames: [1], height: 8, widht: 8}]", "buckets.0.width"),
        ("buckets=[{frames: [], height: 8, width: 8}]", "at least 1"),
    ],
)
def test_a_wrong_list_in_a_recipe_is_refused_by_name(override, words):
    with pytest.raises(ConfigError) as caught:
        load_recipe(ClipsConfig, None, [override])
    assert words in str(caught.value)


def test_a_recipe_names_filters_and_buckets():
    config = load_recipe(
        ClipsConfig,
        None,
        [
            "filters=[{kind: min_motion, change: 1.0}, {kind: no_caption}]",
            "buckets=[{frames: [1, 17], height: 64, width: 96}]",
        ],
    )
    assert config.filters == (MinMotion(change=1.0), NoCaption())
    assert list(itertools.chain(*(bucket.sizes for bucket in config.buckets))) == [
        (1, 64, 96),
        (17, 64, 96),
    ]
