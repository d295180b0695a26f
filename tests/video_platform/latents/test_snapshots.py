"""Freezing what is committed."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.video_platform.latents.toy import fill, record
from video_platform.errors import CacheError, CorruptCacheError
from video_platform.latents import open_cache, snapshot
from video_platform.latents.snapshots import list_snapshots, load_snapshot
from video_platform.storage import open_store

RECORDS = [record(number) for number in range(10)]


def test_a_snapshot_holds_the_source_without_its_rejects(store_url):
    fill(store_url, RECORDS, rejected=["clip-004.mp4"])
    header = snapshot(store_url)
    assert (header.number, header.clips, header.rejects) == (1, 9, {"corrupt": 1})
    assert header.units_missing == 0
    assert open_cache(store_url).ids == [r.id for r in RECORDS if r.id != "clip-004.mp4"]


def test_the_same_commits_are_not_frozen_twice(tmp_path):
    fill(str(tmp_path), RECORDS)
    first = snapshot(str(tmp_path))
    assert snapshot(str(tmp_path)) == first
    assert list_snapshots(open_store(str(tmp_path))) == [1]


def test_units_may_be_missing_only_on_demand(tmp_path):
    fill(str(tmp_path), RECORDS, units=2)
    with pytest.raises(CacheError, match=r"[1-9] of \d units are not committed; run precompute"):
        snapshot(str(tmp_path))
    partial = snapshot(str(tmp_path), partial=True)
    assert 0 < partial.clips < len(RECORDS)
    assert partial.units_missing > 0
    fill(str(tmp_path), RECORDS)
    whole = snapshot(str(tmp_path))
    assert (whole.number, whole.clips) == (2, len(RECORDS))
    assert len(open_cache(str(tmp_path), snapshot=1)) == partial.clips


def test_a_cache_with_nothing_in_it_freezes_nothing(tmp_path):
    with pytest.raises(CacheError, match="no plan"):
        snapshot(str(tmp_path))
    fill(str(tmp_path), RECORDS[:2], rejected=[r.id for r in RECORDS[:2]])
    with pytest.raises(CacheError, match=r"no clip of the source.*corrupt"):
        snapshot(str(tmp_path))


def test_a_grown_source_makes_a_new_snapshot_and_the_old_one_stays(tmp_path):
    fill(str(tmp_path), RECORDS[:6])
    snapshot(str(tmp_path))
    before = [open_cache(str(tmp_path))[i] for i in range(6)]
    fill(str(tmp_path), RECORDS)
    assert snapshot(str(tmp_path)).clips == 10
    after = open_cache(str(tmp_path), snapshot=1)
    assert [s.id for s in before] == after.ids
    assert all(torch.equal(b.mean, after[i].mean) for i, b in enumerate(before))


def test_a_new_caption_encodes_no_clip_again(tmp_path):
    fill(str(tmp_path), RECORDS)
    snapshot(str(tmp_path))
    data = open_store(str(tmp_path)).list("latent")
    fill(str(tmp_path), [dataclasses.replace(RECORDS[0], caption="another"), *RECORDS[1:]])
    snapshot(str(tmp_path))
    assert open_store(str(tmp_path)).list("latent") == data
    assert open_cache(str(tmp_path))[0].caption == "another"


def test_the_order_does_not_depend_on_how_the_units_came_to_be(tmp_path):
    fill(str(tmp_path / "a"), RECORDS)
    fill(str(tmp_path / "b"), RECORDS[3:], unit_size=2)
    fill(str(tmp_path / "b"), RECORDS, unit_size=3)
    snapshot(str(tmp_path / "a"))
    snapshot(str(tmp_path / "b"))
    one, other = open_cache(str(tmp_path / "a")), open_cache(str(tmp_path / "b"))
    assert one.ids == other.ids
    assert all(torch.equal(one[i].mean, other[i].mean) for i in range(len(one)))


def test_statistics_are_those_of_all_latent_means(tmp_path):
    fill(str(tmp_path), RECORDS)
    snapshot(str(tmp_path))
    cache = open_cache(str(tmp_path))
    values = np.stack([cache[i].mean.double().numpy() for i in range(len(cache))])
    mean, std = cache.statistics()
    assert mean.numpy() == pytest.approx(values.mean((0, 2, 3, 4)), abs=1e-6)
    assert std.numpy() == pytest.approx(values.std((0, 2, 3, 4)), abs=1e-6)


def test_snapshots_taken_at_once_get_numbers_of_their_own(tmp_path):
    plans = [fill(str(tmp_path), RECORDS[: 4 + n]) for n in range(4)]
    start = threading.Barrier(4)

    def take(plan):
        start.wait()
        return snapshot(str(tmp_path), plan=plan.id)

    with ThreadPoolExecutor(4) as threads:
        headers = list(threads.map(take, plans))
    assert sorted(header.number for header in headers) == [1, 2, 3, 4]
    assert [header.clips for header in headers] == [4, 5, 6, 7]


def test_files_of_a_writer_that_died_before_its_header_are_no_snapshot(tmp_path):
    fill(str(tmp_path), RECORDS)
    first = snapshot(str(tmp_path))
    root = open_store(str(tmp_path))
    root.delete("snapshots/1.json")
    assert list_snapshots(root) == []
    again = snapshot(str(tmp_path))
    assert again.number == 1
    left = {file.key for file in first.index.all}
    assert not left & {file.key for file in again.index.all}, "they may be cleared away at any time"
    assert open_cache(str(tmp_path)).ids == [item.id for item in RECORDS]


def test_a_damaged_snapshot_is_refused(tmp_path):
    fill(str(tmp_path), RECORDS)
    made = snapshot(str(tmp_path))
    root = open_store(str(tmp_path))
    for file in (*made.index.rows, made.index.shards):
        data = root.read(file.key)
        root.put(file.key, data[:-9] + b"?" + data[-8:])
        with pytest.raises(CorruptCacheError, match=f"{file.key} is damaged"):
            _ = open_cache(str(tmp_path))[0]
        root.put(file.key, data)
    header = root.read("snapshots/1.json")
    root.put("snapshots/1.json", header.replace(b'"clips":10', b'"clips":11'))
    with pytest.raises(CorruptCacheError, match=r"1\.json is damaged"):
        load_snapshot(root)
