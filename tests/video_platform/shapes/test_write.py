"""Datasets on a local disk and on S3: equal bytes, resumed, and read back by the readers."""

import dataclasses

import pytest

from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source, read_media
from video_platform.errors import ConfigError, SourceError
from video_platform.shapes import write
from video_platform.shapes.captions import clip_at
from video_platform.shapes.detect import detect_in
from video_platform.shapes.judge import judge
from video_platform.shapes.program import Program
from video_platform.shapes.world import WorldConfig, held_out_combinations
from video_platform.shapes.write import write_dataset
from video_platform.storage import open_store
from video_platform.video.decode import decode
from video_platform.video.encode import read_mp4_metadata
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

WORLD = WorldConfig(num_clips=6)
LAYOUTS = [
    ("", "folder"),
    ("", "webdataset"),
    ("/world.list.jsonl", "manifest"),
    ("/clips.parquet", "manifest"),
]


def contents(url):
    store = open_store(url)
    return {key: store.read(key) for key in store.list()}


@pytest.mark.parametrize(("name", "format"), LAYOUTS)
def test_a_written_world_is_read_back_whole(store_url, name, format, monkeypatch):
    monkeypatch.setattr(write, "CLIPS_PER_SHARD", 4)
    written = write_dataset(WORLD, store_url + name, format=format)
    assert (written.num_clips, written.new_clips) == (6, 6)
    records = open_source(SourceConfig(url=written.source_url, format=format))
    assert len(records) == 6
    policy = PixelPolicy(frames=9, height=32, width=32, fps=8)
    for index, record in enumerate(records):
        program, caption = clip_at(WORLD, index)
        assert record.caption == caption
        assert Program.from_json(record.program) == program
        frames = decode(read_media(record), policy=policy, limits=MediaLimits()).frames
        assert judge(detect_in(WORLD, frames), program.combinations)["exact"]


@pytest.mark.parametrize(("name", "format"), LAYOUTS)
def test_the_same_world_is_the_same_bytes(tmp_path, name, format):
    for folder in ("a", "b"):
        write_dataset(WORLD, f"{tmp_path}/{folder}{name}", format=format)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(("name", "format"), LAYOUTS)
def test_a_torn_dataset_is_completed_and_a_whole_one_is_left_alone(tmp_path, name, format):
    url = f"{tmp_path}{name}"
    write_dataset(WORLD, url, format=format)
    whole, store = contents(tmp_path), open_store(tmp_path)
    torn = [key for key in whole if key.endswith(("2.mp4", "0.tar", ".jsonl", ".parquet"))]
    assert torn
    for key in torn:
        store.delete(key)
    assert write_dataset(WORLD, url, format=format).new_clips in (1, 6)
    assert contents(tmp_path) == whole
    assert write_dataset(WORLD, url, format=format).new_clips == 0


def test_another_world_in_the_same_place_is_refused(tmp_path):
    write_dataset(WORLD, str(tmp_path))
    with pytest.raises(SourceError, match="already holds another world"):
        write_dataset(dataclasses.replace(WORLD, seed=1), str(tmp_path))
    with pytest.raises(SourceError, match="already holds another world"):
        write_dataset(WORLD, str(tmp_path), held_out=True)


def test_withheld_clips_show_withheld_combinations(tmp_path):
    write_dataset(WORLD, str(tmp_path), held_out=True)
    records = open_source(SourceConfig(url=str(tmp_path)))
    for record in records:
        assert record.id.rpartition("/")[2].startswith("withheld-")
        (combination,) = Program.from_json(record.program).combinations
        assert combination in held_out_combinations(WORLD)


def test_a_video_says_what_it_shows_and_that_it_is_synthetic(tmp_path):
    write_dataset(WORLD, str(tmp_path))
    metadata = read_mp4_metadata(tmp_path / "videos" / "clip-000002.mp4")
    assert metadata["title"] == clip_at(WORLD, 2)[1]
    assert metadata["comment"] == "synthetic clip clip-000002 of seed 0"


def test_progress_counts_up_to_all_clips(tmp_path):
    seen = []
    write_dataset(
        WorldConfig(num_clips=130),
        str(tmp_path),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(64, 130), (128, 130), (130, 130)]


def test_an_unknown_or_unfitting_format_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="folder, manifest, webdataset"):
        write_dataset(WORLD, str(tmp_path), format="zip")
    with pytest.raises(SourceError, match="ends in"):
        write_dataset(WORLD, f"{tmp_path}/clips.parquet", format="folder")
    assert not list(tmp_path.iterdir())
