"""Copies of training clips are found; clips that are merely of the same world are not called so."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from jobs.clip_scores import score_clip, thumbnail_of
from jobs.evaluation_records import JudgedClip
from jobs.memorisation import (
    Rendered,
    memorisations,
    nearest,
    with_nearest,
    worlds_pools,
    write_pairs,
)
from video_platform.shapes.world import WorldConfig
from video_platform.video.encode import write_mp4

WORLD = WorldConfig(num_clips=60)


@pytest.fixture(scope="module")
def pools():
    """Clips of a world, drawn once."""
    training, unseen = worlds_pools(WORLD)
    return [training[i] for i in range(60)], [unseen[i] for i in range(60)]


def judged(clips, tmp_path, *, seeds=2):
    found = []
    for place, frames in enumerate(clips):
        file = f"clips/m/{place}.mp4"
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        write_mp4(tmp_path / file, frames, fps=8.0, crf=8)
        found.append(
            JudgedClip(
                contender="m",
                question=place // seeds,
                prompt=f"p{place // seeds}",
                split="all",
                seed=place,
                file=file,
            )
        )
    scores = {"m": {(c.question, c.seed): score_clip(f) for c, f in zip(found, clips, strict=True)}}
    return found, scores


def memorised(clips, pools, tmp_path):
    found, threshold = with_nearest(*judged(clips, tmp_path), pools)
    (result,) = memorisations(found, threshold, pools, folder=tmp_path, level=0.95, resamples=200)
    return found, result


def test_the_nearest_clip_is_that_of_a_search_through_all(pools):
    training, unseen = pools
    queries = np.stack([thumbnail_of(each).ravel() for each in unseen[:7]])
    index, distance = nearest(queries, training, 9)
    for query, place, near in zip(queries, index, distance, strict=True):
        all_ = [np.sqrt(np.mean((thumbnail_of(each).ravel() - query) ** 2)) for each in training]
        assert place == np.argmin(all_)
        assert near == pytest.approx(min(all_), rel=1e-5)


def test_blocks_of_a_pool_are_joined(pools, monkeypatch):
    queries = np.stack([thumbnail_of(each).ravel() for each in pools[1][:5]])
    whole = nearest(queries, pools[0], 9)
    monkeypatch.setattr("jobs.memorisation.AT_ONCE", 7)
    parts = nearest(queries, pools[0], 9)
    assert np.array_equal(whole[0], parts[0])
    assert np.allclose(whole[1], parts[1])


def test_copies_are_found_by_index_and_told(pools, tmp_path):
    training, _ = pools
    rng = np.random.default_rng(0)
    noisy = [
        (frames + rng.normal(0, 3, frames.shape)).clip(0, 255).astype(np.uint8)
        for frames in training[10:30]
    ]
    found, result = memorised(noisy, pools, tmp_path)
    assert [clip.nearest.index for clip in found] == list(range(10, 30))
    assert result.nearer.value == 1
    assert result.close.value == 1
    assert result.ratio.high < 0.2
    assert result.closest[0].nearest.distance == min(clip.nearest.distance for clip in found)
    assert len(result.closest) == 12


def test_other_clips_of_the_world_are_no_copies(pools, tmp_path):
    others = Rendered(world=WORLD, start=1000, num_clips=40)
    _, result = memorised([others[i] for i in range(40)], pools, tmp_path)
    assert result.nearer.low < 0.5 < result.nearer.high
    assert result.close.value < 0.1
    assert result.ratio.low < 1 < result.ratio.high


def test_a_world_has_as_many_unseen_clips_as_training_clips():
    training, unseen = worlds_pools(WORLD)
    assert (len(training), len(unseen)) == (60, 60)
    assert np.array_equal(unseen[0], Rendered(world=WORLD, start=60, num_clips=1)[0])
    assert not np.array_equal(unseen[0], training[0])


def test_longer_training_clips_are_compared_at_evenly_spaced_frames(pools):
    short = pools[0][3][[0, 2, 4, 6, 8]]
    index, distance = nearest(thumbnail_of(short).reshape(1, -1), pools[0], 5)
    assert index.tolist() == [3]
    assert distance[0] == 0


def test_the_picture_shows_each_clip_above_its_training_clip(pools, tmp_path):
    found, _ = with_nearest(*judged(pools[0][:3], tmp_path), pools)
    write_pairs(tmp_path / "a" / "pairs.png", found, pools[0], tmp_path)
    picture = Image.open(io.BytesIO((tmp_path / "a" / "pairs.png").read_bytes()))
    pitch = 64 + 4 + 13 + 4
    assert picture.height == 4 + 6 * pitch
    pixels = np.asarray(picture.convert("RGB"), int)
    top = 4 + 17
    one, other = (pixels[top + pitch * row :][:64] for row in (0, 1))
    assert np.abs(one - other).mean() < 6  # the very same clip, but for its compression


def test_the_same_clip_is_told_apart_by_its_prompt_and_seed(pools, tmp_path):
    found, scores = judged(pools[0][:4], tmp_path)
    turned = {"m": dict(reversed(scores["m"].items()))}
    (first, *_), _ = with_nearest(found, turned, pools)
    assert first.nearest.index == 0
    assert dataclasses.replace(first, nearest=None) == found[0]
