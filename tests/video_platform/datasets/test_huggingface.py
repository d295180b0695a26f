"""Hugging Face folders: metadata files beside the media, Parquet shards with the media inside."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conformance.datasets import CLIPS, SourceConformance
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.parquet import ParquetRows
from video_platform.datasets.source import open_source, read_media
from video_platform.errors import SourceError
from video_platform.storage import Store, open_store

VIDEO = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def parquet(columns, *, declared=None, **options):
    """Pack columns as `datasets` does: a struct for media, and its features in the schema."""
    table = pa.table(columns)
    if declared:
        features = {name: {"_type": kind} for name, kind in declared.items()}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def structs(values):
    return pa.array(values, VIDEO)


class TestMetadataLines(SourceConformance):
    format = "huggingface"
    keeps_program = False

    def write(self, url, clips):
        store = open_store(url)
        for clip in clips:
            store.put(f"train/clips/{clip.name}.mp4", clip.data)
        store.put(f"train/{self.name()}", self.table(clips))
        return url

    def name(self):
        return "metadata.jsonl"

    def rows(self, clips):
        return [{"file_name": f"clips/{clip.name}.mp4", "text": clip.caption} for clip in clips]

    def table(self, clips):
        return "\n".join(map(json.dumps, self.rows(clips))).encode()


class TestMetadataCsv(TestMetadataLines):
    def name(self):
        return "metadata.csv"

    def table(self, clips):
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ["file_name", "text"])
        writer.writeheader()
        writer.writerows(self.rows(clips))
        return text.getvalue().encode()


class TestMetadataParquet(TestMetadataLines):
    def name(self):
        return "metadata.parquet"

    def table(self, clips):
        return parquet(pa.Table.from_pylist(self.rows(clips)).to_pydict())


class TestShards(SourceConformance):
    format = "huggingface"
    keeps_program = False
    keeps_size = False

    def write(self, url, clips):
        for clip in clips:
            columns = {"video": self.media([clip]), "text": pa.array([clip.caption], pa.string())}
            name = f"data/train-{clip.name}.parquet"
            open_store(url).put(name, parquet(columns, declared=self.declared()))
        return url

    def declared(self):
        return {"video": "Video"}

    def media(self, clips):
        return structs([{"bytes": clip.data, "path": f"{clip.name}.mp4"} for clip in clips])


class TestBareBytes(TestShards):
    def declared(self):
        return None

    def media(self, clips):
        return pa.array([clip.data for clip in clips], pa.large_binary())


class TestOneShard(TestShards):
    def write(self, url, clips):
        clips = sorted(clips, key=lambda clip: clip.name)
        captions = pa.array([clip.caption for clip in clips], pa.string())
        columns = {"text": captions, "video": self.media(clips)}
        open_store(url).put("train.parquet", parquet(columns, row_group_size=2))
        return f"{url}/train.parquet"

    def test_ids_are_sorted_unique_and_stay_when_a_clip_is_added(self, store_url):
        records = self.open(store_url)
        assert [record.id for record in records] == [f"train.parquet/{row:08d}" for row in range(3)]


def open_folder(path, **options):
    return open_source(SourceConfig(url=str(path), **options))


def put(folder, **files):
    for name, data in files.items():
        open_store(folder).put(name.replace("__", "/").replace("_", "."), data)


def test_a_row_may_name_a_file_instead_of_holding_it(tmp_path):
    values = [{"bytes": None, "path": "videos/a.mp4"}, {"bytes": b"inside", "path": "b.mp4"}]
    put(tmp_path, videos__a_mp4=b"beside")
    for name, rows in (("mixed", values), ("paths", values[:1]), ("bytes", values[1:])):
        (tmp_path / "one.parquet").write_bytes(
            parquet({"video": structs(rows), "caption": [name] * len(rows)})
        )
        records = open_source(SourceConfig(url=str(tmp_path), format="huggingface"))
        media = {
            record.id: getattr(read_media(record), "name", "inside bytes") for record in records
        }
        expected = {}
        if name != "bytes":
            expected["videos/a.mp4"] = "a.mp4"
        if name != "paths":
            expected[f"one.parquet/{len(rows) - 1:08d}"] = "inside bytes"
        assert media == expected
        assert {record.caption for record in records} == {name}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("../a.mp4", "leads out of the store"),
        ("http://169.254.169.254/a.mp4", "allowed"),
        ("none.mp4", "1 of the named videos are not there: 'none.mp4'"),
        (None, "row 0: it holds no media, and its path is None"),
    ],
)
def test_a_path_in_a_shard_is_held_to_the_rules_of_a_manifest(tmp_path, path, words):
    put(tmp_path, a_parquet=parquet({"video": structs([{"bytes": None, "path": path}])}))
    with pytest.raises(SourceError) as caught:
        open_folder(tmp_path)
    assert words in str(caught.value)


def test_a_split_is_chosen_by_its_files(tmp_path):
    for name in ("data/train-00000", "data/test-00000"):
        data = parquet({"video": structs([{"bytes": b"1", "path": None}])})
        open_store(tmp_path).put(f"{name}.parquet", data)
    [record] = open_folder(tmp_path, include="data/train-*")
    assert record.id == "data/train-00000.parquet/00000000"
    assert len(open_folder(tmp_path)) == 2
    with pytest.raises(SourceError, match=r"include = 'none\*' leaves none of the 2 files"):
        open_folder(tmp_path, include="none*")


def test_the_caption_column_can_be_chosen(tmp_path):
    video = structs([{"bytes": b"1", "path": None}])
    put(tmp_path, a_parquet=parquet({"video": video, "text": ["short"], "long": ["longer"]}))
    assert open_folder(tmp_path)[0].caption == "short"
    assert open_folder(tmp_path, caption_column="long")[0].caption == "longer"
    with pytest.raises(SourceError, match="caption_column to one of: video, text, long"):
        open_folder(tmp_path, caption_column="none")


def test_the_declared_video_is_taken_among_columns_of_bytes(tmp_path):
    columns = {"image": structs([{"bytes": b"still", "path": None}])}
    columns["film"] = structs([{"bytes": b"moving", "path": None}])
    put(tmp_path, a_parquet=parquet(columns, declared={"image": "Image", "film": "Video"}))
    assert read_media(open_folder(tmp_path)[0]) == b"moving"
    put(tmp_path, a_parquet=parquet(columns))
    assert read_media(open_folder(tmp_path)[0]) == b"still"


def test_a_table_of_paths_is_a_manifest_and_one_of_numbers_is_refused(tmp_path):
    put(tmp_path, v__a_mp4=b"1", m_parquet=parquet({"video": ["v/a.mp4"], "text": ["a dog"]}))
    [record] = open_folder(tmp_path / "m.parquet")
    assert (record.id, record.caption) == ("v/a.mp4", "a dog")
    put(tmp_path, n__m_parquet=parquet({"video": [3]}))
    with pytest.raises(SourceError, match="no column of bytes"):
        open_folder(tmp_path / "n")


def test_files_without_a_row_have_no_caption_and_rows_without_a_file_are_named(tmp_path):
    rows = '{"file_name": "a.mp4", "text": "x"}'
    put(tmp_path, train__a_mp4=b"1", train__b_mp4=b"2", train__metadata_jsonl=rows.encode())
    records = open_folder(tmp_path)
    assert [(r.id, r.caption) for r in records] == [("train/a.mp4", "x"), ("train/b.mp4", None)]
    put(tmp_path, train__metadata_jsonl=b'{"file_name": "c.mp4"}')
    with pytest.raises(SourceError, match=r"'c\.mp4'"):
        open_folder(tmp_path)
    put(tmp_path, train__metadata_jsonl=b'{"file_name": "../../c.mp4"}')
    with pytest.raises(SourceError, match="leads out"):
        open_folder(tmp_path)


def test_reading_rows_in_order_reads_each_row_group_once(s3_url, monkeypatch):
    values = structs([{"bytes": bytes([row]) * 100_000, "path": None} for row in range(20)])
    data = parquet({"video": values}, row_group_size=10, compression="none")
    open_store(s3_url).put("a.parquet", data)
    sizes = []
    read = Store.read

    def counted(self, key, *, start=0, end=None):
        answer = read(self, key, start=start, end=end)
        sizes.append(len(answer))
        return answer

    monkeypatch.setattr(Store, "read", counted)
    records = open_source(SourceConfig(url=s3_url))
    assert sum(sizes) < 0.2 * len(data), "listing must not read the videos"
    sizes.clear()
    rows = ParquetRows()
    assert [read_media(record, rows)[0] for record in records] == list(range(20))
    assert sum(sizes) < 1.5 * len(data)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(50) + b"PAR1"])
def test_a_broken_shard_is_named(tmp_path, data):
    put(tmp_path, a_parquet=data)
    with pytest.raises(SourceError, match=r"a\.parquet is not parquet"):
        open_folder(tmp_path)


def test_a_damaged_shard_is_named_when_it_is_read(tmp_path):
    data = bytearray(parquet({"video": structs([{"bytes": bytes(5000), "path": "a"}])}))
    data[4:200] = bytes(196)
    put(tmp_path, a_parquet=bytes(data))
    with pytest.raises(SourceError, match=r"a\.parquet"):
        read_media(open_folder(tmp_path)[0])


def test_damaged_captions_are_named_when_a_shard_is_listed(tmp_path):
    video = structs([{"bytes": b"1", "path": None}] * 1000)
    captions = [f"caption {row}" for row in range(1000)]
    data = bytearray(parquet({"text": captions, "video": video}))
    data[10:200] = bytes(190)
    put(tmp_path, a_parquet=bytes(data))
    with pytest.raises(SourceError, match=r"a\.parquet is damaged"):
        open_folder(tmp_path)


def test_arrow_files_are_explained(tmp_path):
    put(tmp_path, data_arrow=b"", state_json=b"{}")
    with pytest.raises(SourceError, match="anew with `to_parquet`"):
        open_folder(tmp_path)


def test_every_clip_of_the_suite_has_other_bytes():
    assert len({clip.data for clip in CLIPS}) == len(CLIPS)
