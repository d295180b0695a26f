"""A source becomes clips, and a table that accounts for every second of it."""

import csv
import io

import pyarrow.parquet as pq
import pytest

from tests.video_platform.clips.made import POLICY, image, record, scan
from video_platform.clips.config import Bucket, ClipsConfig
from video_platform.clips.filter_config import Blank, MinMotion
from video_platform.clips.report import explain, to_csv
from video_platform.clips.scans import Refusal
from video_platform.clips.selection import select_clips
from video_platform.storage import open_store

CONFIG = ClipsConfig(
    cut="windows",
    window_s=2.5,
    buckets=(
        Bucket(frames=(1, 17), height=64, width=64),
        Bucket(frames=(17,), height=64, width=128),
    ),
    filters=(Blank(), MinMotion(change=1.0)),
)
SCANNED = [
    (record("a"), scan(7.0, width=256, height=128)),
    (record("b"), image(width=200, height=100)),
    (record("c"), Refusal(reason="corrupt", error="its data are damaged", limits="")),
    (record("d"), scan(5.0, motion=0.5)),
    (record("e"), scan(2.5, width=150, height=100)),
]


@pytest.fixture
def selection(tmp_path):
    return select_clips(open_store(tmp_path), SCANNED, CONFIG, POLICY)


def test_the_clips_are_sorted_and_their_ids_are_unique(selection):
    ids = [clip.id for clip in selection.records]
    assert ids == sorted(set(ids))
    assert len(ids) == 4
    assert all(clip.size is not None for clip in selection.records)


def test_the_table_counts_clips_crops_and_seconds(selection):
    rows = {row.name: row for row in selection.rows}
    assert list(rows) == [
        *("1x64x64", "17x64x64", "17x64x128"),
        *("corrupt", "left_over", "min_motion"),
    ]
    wide = rows["17x64x128"]
    assert (wide.clips, wide.files, wide.cropped) == (3, 2, pytest.approx(0.25 / 3, abs=1e-4))
    assert wide.seconds == pytest.approx(3 * 2.5)
    assert wide.seconds_lost == pytest.approx(3 * 0.375)
    assert wide.most_cropped == 0.25
    assert (rows["1x64x64"].clips, rows["1x64x64"].cropped) == (1, 0.5)
    assert rows["17x64x64"].clips == 0
    assert selection.rejects == {"corrupt": 1, "left_over": 1, "min_motion": 2}


def test_every_second_of_every_readable_video_is_in_one_row(selection):
    total = sum(found.duration_s for _, found in SCANNED if not isinstance(found, Refusal))
    assert sum(row.seconds for row in selection.rows) == pytest.approx(total)


def test_every_piece_is_a_row_of_the_stored_table(selection, tmp_path):
    pieces = pq.read_table(tmp_path / selection.table).to_pylist()
    assert len(pieces) == sum(row.clips for row in selection.rows)
    taken = [piece["id"] for piece in pieces if not piece["reason"]]
    assert sorted(taken) == [clip.id for clip in selection.records]
    [damaged] = [piece for piece in pieces if piece["file"] == "c"]
    assert (damaged["reason"], damaged["detail"]) == ("corrupt", "its data are damaged")


def test_the_same_source_gives_the_same_selection(selection, tmp_path):
    root = open_store(tmp_path)
    again = select_clips(root, SCANNED, CONFIG, POLICY)
    assert again == selection
    assert len(root.list()) == 1
    other = select_clips(root, SCANNED[1:], CONFIG, POLICY)
    assert other.table != selection.table


def test_every_reason_is_explained(selection):
    for row in selection.rows:
        assert bool(row.meaning) == (row.outcome == "rejected")
    assert explain("blank").startswith("it is black")


def test_the_table_as_csv_reads_back(selection):
    rows = list(csv.DictReader(io.StringIO(to_csv(selection.rows))))
    assert [row["name"] for row in rows] == [row.name for row in selection.rows]
    assert [int(row["clips"]) for row in rows] == [row.clips for row in selection.rows]
