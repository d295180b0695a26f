"""Opening datasets: configuration, missing places, ids, and a folder of real videos."""

import os
from pathlib import Path

import pytest

from video_platform.config import load_recipe
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import FORMATS, open_source, read_media
from video_platform.errors import ConfigError, SourceError

REAL_VIDEOS = os.environ.get("REAL_VIDEOS")
needs_real_videos = pytest.mark.skipif(
    REAL_VIDEOS is None, reason="set REAL_VIDEOS to a folder with clips/, odd/ and broken/"
)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "url is missing"),
        (["url= "], "url"),
        (["url=a", "format=tar"], "'auto', 'folder', 'huggingface', 'manifest' or 'webdataset'"),
        (["url=a", "format=webdataset", "captions=b.csv"], "captions has no meaning"),
    ],
)
def test_a_wrong_recipe_is_refused(overrides, words):
    with pytest.raises(ConfigError) as caught:
        load_recipe(SourceConfig, None, overrides)
    assert words in str(caught.value)


def test_every_format_can_be_asked_for():
    for name in FORMATS:
        assert load_recipe(SourceConfig, None, ["url=a", f"format={name}"]).format == name


@pytest.mark.parametrize("name", ["none", "none.mp4", "none.jsonl", "none.tar"])
def test_a_missing_place_is_named(tmp_path, name):
    url = str(tmp_path / name)
    with pytest.raises(SourceError, match=f"no such file or folder at '{url}'; set source.url"):
        open_source(SourceConfig(url=url))


def test_a_relative_path_is_recorded_absolute(tmp_path, monkeypatch):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    for url in ("clips", "./clips/", "clips/a.mp4", f"file://{tmp_path}/clips"):
        [record] = open_source(SourceConfig(url=url))
        assert record.url == str(tmp_path / "clips")
    monkeypatch.chdir(tmp_path / "clips")
    assert open_source(SourceConfig(url="a.mp4")) == [record]


@needs_real_videos
def test_real_clips_have_captions_and_are_read_in_place():
    records = open_source(SourceConfig(url=f"{REAL_VIDEOS}/clips"))
    assert len(records) == 12
    assert all(record.caption for record in records)
    for record in records:
        path = read_media(record)
        assert isinstance(path, Path)
        assert path.stat().st_size == record.size_bytes


@needs_real_videos
@pytest.mark.parametrize("folder", ["odd", "broken"])
def test_every_odd_or_broken_file_is_listed(folder):
    records = open_source(SourceConfig(url=f"{REAL_VIDEOS}/{folder}"))
    assert [record.id for record in records] == sorted(os.listdir(f"{REAL_VIDEOS}/{folder}"))
