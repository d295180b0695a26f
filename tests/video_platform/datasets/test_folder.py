"""A folder of videos: where captions come from, and what is refused."""

import json
import os

import pytest

from tests.conformance.datasets import SourceConformance
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source, read_media
from video_platform.errors import SourceError, StorageError
from video_platform.storage import open_store


class TestCaptionsFile(SourceConformance):
    format = "folder"

    def write(self, url, clips):
        store = open_store(url)
        lines = []
        for clip in clips:
            store.put(f"deep/{clip.name}.mp4", clip.data)
            row = {"video": f"deep/{clip.name}.mp4", "caption": clip.caption}
            lines.append(json.dumps(row | ({"program": clip.program} if clip.program else {})))
        store.put("captions.jsonl", "\n".join(lines).encode())
        return url


class TestTextFiles(SourceConformance):
    format = "folder"
    keeps_program = False

    def write(self, url, clips):
        store = open_store(url)
        for clip in clips:
            store.put(f"{clip.name}.webm", clip.data)
            if clip.caption is not None:
                store.put(f"{clip.name}.txt", f"{clip.caption}\n".encode())
        return url


def write(folder, **files):
    """Write files; `__` in a name stands for `/`, and the last `_` for `.`."""
    for name, text in files.items():
        path = folder / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def captions(folder, **options):
    records = open_source(SourceConfig(url=str(folder), **options))
    return {record.id: record.caption for record in records}


def test_a_csv_file_captions_and_the_text_beside_fills_in(tmp_path):
    write(tmp_path, a_mp4="", b_mp4="", c_mp4="", b_txt="from text\n", a_txt="not used")
    write(tmp_path, captions_csv='\ufeffcaption,video\n"one, ""quoted""",a.mp4\n')
    assert captions(tmp_path) == {"a.mp4": 'one, "quoted"', "b.mp4": "from text", "c.mp4": None}


def test_a_captions_file_can_be_chosen(tmp_path):
    write(tmp_path, a_mp4="", captions_jsonl='{"video": "a.mp4", "caption": "default"}')
    write(tmp_path, german_jsonl='{"video": "./a.mp4", "caption": " deutsch "}\n\n')
    assert captions(tmp_path) == {"a.mp4": "default"}
    assert captions(tmp_path, captions="german.jsonl") == {"a.mp4": "deutsch"}
    with pytest.raises(
        SourceError, match=r"no captions file 'x.csv'.*captions.jsonl, german.jsonl"
    ):
        captions(tmp_path, captions="x.csv")


def test_every_folder_may_have_a_captions_file(tmp_path):
    write(tmp_path, a_mp4="", x__a_mp4="", x__y__b_mp4="", z__c_mp4="")
    write(tmp_path, captions_csv="video,caption\na.mp4,top\nx/y/b.mp4,from above\n")
    write(tmp_path, x__captions_jsonl='{"video": "a.mp4", "caption": "inner"}')
    write(tmp_path, x__captions_csv="video,caption\na.mp4,not used\n")
    assert captions(tmp_path) == {
        "a.mp4": "top",
        "x/a.mp4": "inner",
        "x/y/b.mp4": "from above",
        "z/c.mp4": None,
    }
    write(tmp_path, x__captions_jsonl='{"video": "y/b.mp4", "caption": "twice"}')
    with pytest.raises(SourceError, match=r"x/y/b.mp4|'y/b.mp4' has a caption already"):
        captions(tmp_path)


def test_only_what_is_called_like_a_video_is_listed(tmp_path):
    write(tmp_path, a_MP4="", b_mkv="", c_jpg="", d__e__f_gif="", _hidden_mp4="")
    write(tmp_path, **{"._a_mp4": "", ".cache__b_mp4": "", "-dash-_mov": ""})
    assert list(captions(tmp_path)) == ["-dash-.mov", "_hidden.mp4", "a.MP4", "b.mkv", "d/e/f.gif"]


def test_one_video_is_a_dataset_too(tmp_path):
    write(tmp_path, a_mp4="data", a_txt="not looked for")
    [record] = open_source(SourceConfig(url=str(tmp_path / "a.mp4")))
    assert record.id == "a.mp4"
    assert read_media(record) == tmp_path / "a.mp4"


def test_a_folder_may_be_called_like_a_video(tmp_path):
    write(tmp_path, **{"clips.mp4__a_mp4": ""})
    assert list(captions(tmp_path / "clips.mp4")) == ["a.mp4"]


def test_captions_that_name_missing_videos_are_reported(tmp_path):
    rows = [json.dumps({"video": f"{number}.mp4", "caption": "x"}) for number in range(9)]
    write(tmp_path, **{"0_mp4": ""}, captions_jsonl="\n".join(rows))
    with pytest.raises(SourceError, match=r"row 2: 8 of the named .* '1.mp4', .*'5.mp4', \.\.\.;"):
        captions(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("captions_jsonl", '{"video": "a.mp4", "caption": "x"}\n{"vid', "line 2"),
        ("captions_jsonl", "[" * 100_000, "captions.jsonl is not jsonl"),
        ("captions_jsonl", b"\xff\xfe", "is not jsonl"),
        ("captions_jsonl", "", "is empty"),
        ("captions_jsonl", "3", "row 1 holds 3"),
        (
            "captions_jsonl",
            '{"file": "a.mp4"}',
            "must be a path. Keys: ['file']",
        ),
        ("captions_jsonl", '{"video": 3}', "'video' is 3"),
        ("captions_jsonl", '{"video": "a.mp4", "caption": 3}', "caption is 3; it must be text"),
        ("captions_jsonl", '{"video": "a.mp4", "program": [1]}', "must be a JSON object"),
        ("captions_jsonl", '{"video": "a.mp4", "program": "{"}', "program is not JSON"),
        ("captions_jsonl", '{"video": "../a.mp4"}', "leads out of the store"),
        ("captions_jsonl", '{"video": "/etc/passwd"}', "leads out of the store"),
        ("captions_jsonl", '{"video": "a.mp4"}\n{"video": "./a.mp4"}', "row 2: './a.mp4' has a"),
        ("captions_jsonl", '{"video": "a.mp4", "caption": "\\ud800"}', "not valid UTF-8"),
        ("captions_csv", "name,caption\na.mp4,x\n", "Keys: ['name', 'caption']"),
        ("captions_csv", 'video,caption\na.mp4,"x', "captions.csv is not csv"),
        ("captions_parquet", "nothing", "captions.parquet is not parquet"),
        ("a_txt", b"\xff", "a.txt is not UTF-8"),
    ],
)
def test_a_broken_captions_file_is_named(tmp_path, name, text, words):
    write(tmp_path, a_mp4="", **{name: text})
    with pytest.raises(SourceError) as caught:
        captions(tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.mp4")).write_bytes(b"")
    with pytest.raises(SourceError, match="not valid UTF-8; rename"):
        captions(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    write(tmp_path, secret_mp4="", clips__a_mp4="")
    (tmp_path / "clips" / "b.mp4").symlink_to(tmp_path / "secret.mp4")
    with pytest.raises(StorageError, match="link that leads out"):
        captions(tmp_path / "clips")


@pytest.mark.parametrize("url", ["http://host/clips", "memory://a", "zip://a::s3://bucket/b"])
def test_a_dataset_elsewhere_is_refused(url):
    with pytest.raises(StorageError, match="allowed: a path"):
        captions(url)


def test_images_are_clips_when_the_recipe_says_so(tmp_path):
    write(tmp_path, a_mp4="", a_jpg="thumbnail", b_PNG="", c_webp="", d_gif="", b_txt="a tree")
    assert list(captions(tmp_path)) == ["a.mp4", "d.gif"]
    found = captions(tmp_path, images=True)
    assert list(found) == ["a.jpg", "a.mp4", "b.PNG", "c.webp", "d.gif"]
    assert found["b.PNG"] == "a tree"
    (tmp_path / "a.mp4").unlink()
    (tmp_path / "d.gif").unlink()
    with pytest.raises(SourceError, match=r"for the 3 images set source.images to true"):
        captions(tmp_path)
    assert list(captions(tmp_path / "b.PNG")) == ["b.PNG"]
