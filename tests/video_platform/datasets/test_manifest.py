"""Manifests: what their paths mean, in every kind of table."""

import csv
import io
import json

import pytest

from tests.conformance.datasets import SourceConformance
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source, read_media
from video_platform.errors import SourceError
from video_platform.storage import open_store


class TestJsonLines(SourceConformance):
    format = "manifest"

    def write(self, url, clips):
        store = open_store(url)
        for clip in clips:
            store.put(f"videos/{clip.name}.mp4", clip.data)
        store.put(self.name(), self.table(clips))
        return self.place(url)

    def name(self):
        return "manifest.jsonl"

    def place(self, url):
        return url

    def table(self, clips):
        return "\n".join(json.dumps(row) for row in self.rows(clips)).encode()

    def rows(self, clips):
        return [
            {"video": f"videos/{clip.name}.mp4", "caption": clip.caption, "program": clip.program}
            for clip in clips
        ]


class TestNamedFile(TestJsonLines):
    def name(self):
        return "train.jsonl"

    def place(self, url):
        return f"{url}/train.jsonl"


class TestParquet(TestJsonLines):
    def name(self):
        return "manifest.parquet"

    def table(self, clips):
        import pyarrow
        import pyarrow.parquet

        rows = [
            row | {"program": row["program"] and json.dumps(row["program"]), "other": b"ignored"}
            for row in self.rows(clips)
        ]
        sink = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
        return sink.getvalue()


class TestCsv(TestJsonLines):
    def name(self):
        return "manifest.csv"

    def table(self, clips):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ["video", "caption", "program"])
        writer.writeheader()
        for row in self.rows(clips):
            writer.writerow(row | {"program": row["program"] and json.dumps(row["program"])})
        return text.getvalue().encode()


def open_rows(store, *rows):
    store.put("manifest.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
    return open_source(SourceConfig(url=store.url))


def test_absolute_paths_and_s3_urls_reach_other_stores(tmp_path, s3_url):
    (tmp_path / "else where.mp4").write_bytes(b"local")
    open_store(s3_url).put("deep/clip.mp4", b"remote")
    records = open_rows(
        open_store(tmp_path / "home"),
        {"video": str(tmp_path / "else where.mp4"), "caption": "l"},
        {"video": f"file://{tmp_path}/else where.mp4", "caption": "f", "id": "again"},
        {"video": f"{s3_url}/deep/clip.mp4", "caption": "r"},
    )
    assert {record.id: record.caption for record in records} == {
        f"{tmp_path}/else where.mp4": "l",
        "again": "f",
        f"{s3_url}/deep/clip.mp4": "r",
    }
    media = {record.caption: read_media(record) for record in records}
    assert media == {
        "l": tmp_path / "else where.mp4",
        "f": tmp_path / "else where.mp4",
        "r": b"remote",
    }


@pytest.mark.parametrize(
    ("video", "words"),
    [
        ("../a.mp4", "leads out of the store"),
        ("http://169.254.169.254/a.mp4", "allowed: a path"),
        ("file:///a.mp4::s3://b", "allowed: a path"),
        ("reference://a.mp4", "allowed: a path"),
        ("a\0.mp4", "control characters"),
        ("\ud800.mp4", "not UTF-8"),
        ("none.mp4", "1 of the named videos are not there: 'none.mp4'"),
        ("/none/none.mp4", "1 of the named videos are not there"),
        ("sub", "1 of the named videos are not there"),
    ],
)
def test_a_row_that_cannot_be_followed_is_named(tmp_path, video, words):
    store = open_store(tmp_path)
    store.put("sub/a.mp4", b"")
    with pytest.raises(SourceError, match=r"manifest.jsonl, row 1: ") as caught:
        open_rows(store, {"video": video, "caption": "x"})
    assert words in str(caught.value)


def test_a_manifest_in_s3_cannot_name_local_files(s3_url, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"secret")
    for video in (str(tmp_path / "a.mp4"), f"file://{tmp_path}/a.mp4"):
        with pytest.raises(SourceError, match="cannot name files of this machine"):
            open_rows(open_store(s3_url), {"video": video})


def test_a_video_twice_needs_ids(tmp_path):
    store = open_store(tmp_path)
    store.put("a.mp4", b"1")
    rows = [{"video": "a.mp4", "caption": "one"}, {"video": "./a.mp4", "caption": "two"}]
    with pytest.raises(SourceError, match=r"two clips .* have the id 'a.mp4'.* its own 'id'"):
        open_rows(store, *rows)
    records = open_rows(store, *[row | {"id": row["caption"]} for row in rows])
    assert [record.id for record in records] == ["one", "two"]


def test_a_manifest_beats_the_videos_beside_it(tmp_path):
    store = open_store(tmp_path)
    store.put("a.mp4", b"1")
    store.put("b.mp4", b"2")
    assert [record.id for record in open_rows(store, {"video": "b.mp4"})] == ["b.mp4"]


def test_a_program_may_be_a_struct(tmp_path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "a.mp4").write_bytes(b"")
    table = pyarrow.Table.from_pylist([{"video": "a.mp4", "program": {"size": 32}}])
    pyarrow.parquet.write_table(table, tmp_path / "m.parquet")
    [record] = open_source(SourceConfig(url=str(tmp_path / "m.parquet")))
    assert record.program == {"size": 32}
    assert record.caption is None
