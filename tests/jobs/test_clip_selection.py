"""From files to clips in buckets to latents: the right frames, and every second accounted for."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.cli import main
from jobs.precompute_latents import precompute, run
from tests.jobs.precompute_world import LIMITS, clips_of, config_for, recipe_for
from tests.tiny import make_autoencoder
from video_models.formats import open_autoencoder, save_autoencoder
from video_platform.clips.config import Bucket, ClipsConfig
from video_platform.clips.filter_config import Blank, NearDuplicate, NoCaption
from video_platform.cluster import start
from video_platform.cluster_config import ClusterConfig
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source
from video_platform.errors import ConfigError, SourceError
from video_platform.latents import open_cache, verify
from video_platform.tracking import TrackingConfig, open_tracker
from video_platform.video.decode import decode
from video_platform.video.encode import write_mp4
from video_platform.video.policy import ClipSize, PixelPolicy

POLICY = PixelPolicy(frames=5, height=16, width=16, fps=8.0)
CLIPS = ClipsConfig(
    cut="scenes",
    buckets=(
        Bucket(frames=(1, 5, 9), height=16, width=16),
        Bucket(frames=(9,), height=16, width=32),
    ),
    filters=(NoCaption(), Blank(), NearDuplicate()),
    scan_timeout_s=60,
)
TAKEN = {
    "long.mp4#t=0.000": (9, 16, 16),
    "long.mp4#t=1.125": (5, 16, 16),
    "long.mp4#t=2.000": (9, 16, 16),
    "picture.png": (1, 16, 16),
    "wide.mp4#t=0.000": (9, 16, 32),
}
REJECTS = {"blank": 1, "left_over": 4, "near_duplicate": 3, "no_caption": 1, "not_video": 1}


def noise(frames, seed, *, height=64, width=64, low=0):
    """Draw coarse patches that change a little from frame to frame."""
    draw = np.random.default_rng(seed)
    scene = draw.integers(low, low + 128, (1, height // 8, width // 8, 3))
    coarse = scene + draw.integers(-12, 13, (frames, height // 8, width // 8, 3))
    return coarse.clip(0, 255).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two scenes in a file, a copy of it, a wide one, a picture, and what is to be left out."""
    folder = tmp_path_factory.mktemp("world")
    videos = folder / "videos"
    videos.mkdir()
    scenes = np.concatenate([noise(16, 1), noise(11, 2, low=127)])
    write_mp4(videos / "long.mp4", scenes, fps=8)
    write_mp4(videos / "long_again.mp4", scenes, fps=8, crf=30)
    write_mp4(videos / "wide.mp4", noise(12, 3, width=128), fps=8)
    write_mp4(videos / "black.mp4", np.zeros((12, 64, 64, 3), np.uint8), fps=8)
    write_mp4(videos / "uncaptioned.mp4", noise(9, 4), fps=8)
    Image.fromarray(noise(1, 5)[0]).save(videos / "picture.png")
    (videos / "garbage.mp4").write_bytes(b"this is no video")
    names = ["long.mp4", "long_again.mp4", "wide.mp4", "black.mp4", "picture.png", "garbage.mp4"]
    lines = [json.dumps({"video": name, "caption": name}) for name in names]
    (videos / "captions.jsonl").write_text("\n".join(lines))
    save_autoencoder(make_autoencoder(), folder / "autoencoder")
    return folder


@pytest.fixture(scope="module")
def ray_running():
    with start(ClusterConfig(num_cpus=2)):
        yield


def recipe_of(world, **changes):
    source = SourceConfig(url=str(world / "videos"), images=True)
    cache = config_for(str(world / "cache"))
    sections = {"pixels": POLICY, "clips": CLIPS, "source": source, "project": str(world)}
    return recipe_for(world, cache, **{**sections, **changes})


@pytest.fixture(scope="module")
def finished(ray_running, world):
    recipe = recipe_of(world)
    return recipe, run(recipe)


def test_every_piece_is_taken_or_left_out_for_the_right_reason(finished):
    recipe, report = finished
    cache = open_cache(recipe.cache.url)
    assert sorted(cache.ids) == sorted(TAKEN)
    assert report.rejects == REJECTS
    assert verify(recipe.cache.url) == []


def test_latents_are_those_of_the_frames_at_the_times_of_the_clip(finished, world):
    recipe, _ = finished
    model = open_autoencoder(world / "autoencoder")
    for sample in open_cache(recipe.cache.url):
        file, _, start_s = sample.id.partition("#t=")
        frames, height, width = TAKEN[sample.id]
        first = round(float(start_s or 0) * POLICY.fps)
        policy = POLICY.at(ClipSize(first + frames, height, width))
        whole = decode(world / "videos" / file, policy=policy, limits=LIMITS).frames[first:]
        video = torch.from_numpy(whole)[None].movedim(-1, 1).float() / 127.5 - 1
        with torch.inference_mode():
            mean = model.encode(video).mean[0]
        torch.testing.assert_close(sample.mean, mean, atol=1e-5, rtol=1e-4)
        assert sample.caption == file


def test_a_flipped_byte_in_a_scan_or_in_the_table_is_found(finished, tmp_path):
    recipe, _ = finished
    shutil.copytree(recipe.cache.url, tmp_path / "cache")
    damaged = [*tmp_path.glob("cache/scans/*/*.json"), *tmp_path.glob("cache/clips/*.parquet")]
    for path in damaged:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    found = {finding.key for finding in verify(str(tmp_path / "cache")) if finding.harmful}
    assert found == {path.relative_to(tmp_path / "cache").as_posix() for path in damaged}
    assert len(found) >= 2


def test_the_table_is_tracked_with_the_run(finished, world):
    tracker = open_tracker(TrackingConfig(), world)
    experiment = tracker.client.search_experiments()[0].experiment_id
    [tracked] = [
        found
        for found in tracker.client.search_runs([experiment])
        if found.info.run_name.endswith("precompute")
    ]
    path = tracker.client.download_artifacts(tracked.info.run_id, "clips.csv", str(world))
    with open(path) as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert {name: int(row["clips"]) for name, row in rows.items() if row["outcome"] == "taken"} == {
        "1x16x16": 1,
        "5x16x16": 1,
        "9x16x16": 2,
        "9x16x32": 1,
    }
    path = tracker.client.download_artifacts(tracked.info.run_id, "clips.json", str(world))
    with open(path) as file:
        assert (world / "cache" / json.load(file)["table"]).is_file()


def test_run_again_it_opens_no_video_and_finds_the_same(finished, monkeypatch):
    recipe, first = finished
    monkeypatch.setattr("video_platform.clips.scanning._scanners", None)
    again = precompute(recipe, open_source(recipe.source), on_progress=lambda now: None)
    assert again.encoded_now == 0
    assert (again.snapshot_id, again.rejects) == (first.snapshot_id, first.rejects)


def test_another_filter_rescans_nothing_and_encodes_nothing_anew(finished, monkeypatch):
    recipe, _ = finished
    monkeypatch.setattr("video_platform.clips.scanning._scanners", None)
    clips = dataclasses.replace(CLIPS, filters=(NoCaption(), NearDuplicate()))
    report = precompute(
        dataclasses.replace(recipe, clips=clips),
        open_source(recipe.source),
        on_progress=lambda now: None,
    )
    assert report.encoded_now == 1, "only the black clip is new"
    assert report.clips == len(TAKEN) + 1


@pytest.mark.parametrize(
    ("bucket", "words"),
    [
        (Bucket(frames=(6,), height=16, width=16), "6 frames"),
        (Bucket(frames=(5,), height=16, width=18), "16 x 18"),
    ],
)
def test_a_bucket_that_the_autoencoder_cannot_take_is_refused_before_any_scan(
    world, tmp_path, bucket, words
):
    clips = dataclasses.replace(CLIPS, buckets=(*CLIPS.buckets, bucket))
    recipe = recipe_of(world, clips=clips, cache=config_for(str(tmp_path)))
    with pytest.raises(ConfigError, match=words):
        precompute(recipe, clips_of(world), on_progress=lambda now: None)
    assert not list(tmp_path.glob("scans/*"))


def test_a_source_of_which_nothing_is_left_says_why(finished, tmp_path):
    recipe, _ = finished
    bucket = Bucket(frames=(5,), height=512, width=512)
    clips = dataclasses.replace(CLIPS, buckets=(bucket,))
    with pytest.raises(SourceError, match=r"none of the 7 videos gives a clip: .*too_small"):
        precompute(
            dataclasses.replace(recipe, clips=clips),
            open_source(recipe.source),
            on_progress=lambda now: None,
        )


RECIPE = """
name: world
source: {url: x, images: true}
pixels: {frames: 5, height: 16, width: 16, fps: 8.0}
clips:
  cut: scenes
  buckets:
    - {frames: [1, 5, 9], height: 16, width: 16}
    - {frames: [9], height: 16, width: 32}
  filters: [{kind: no_caption}, {kind: blank}, {kind: near_duplicate}]
"""


def test_inspect_shows_the_same_plan_and_writes_nothing(world, tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    before = sorted(tmp_path.iterdir())
    command = ["inspect", str(world / "videos"), "--recipe", str(path)]
    assert main([*command, "--json"]) == 0
    pieces = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {piece["id"] for piece in pieces if not piece["reason"]} == set(TAKEN)
    assert len(pieces) == len(TAKEN) + sum(REJECTS.values())
    assert main([*command, "clips.cut=whole"]) == 0
    shown = capsys.readouterr().out
    assert "9x16x32" in shown
    assert "near_duplicate" in shown
    assert sorted(tmp_path.iterdir()) == before
