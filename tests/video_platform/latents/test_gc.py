"""Garbage collection removes what is old and unnamed, never what a running job may yet name."""

import os
import time

import pytest

from tests.video_platform.latents.toy import (
    config_for,
    fill,
    fill_further_layer,
    latents,
    record,
    write_clips,
)
from video_platform.errors import CacheError, CorruptCacheError
from video_platform.latents import collect_garbage, open_cache, snapshot, verify
from video_platform.latents.layer import open_layer
from video_platform.latents.manifest import latent_units
from video_platform.latents.work import missing_work
from video_platform.storage import Store, open_store

RECORDS = [record(number) for number in range(7)]
BY_ID = {item.id: item for item in RECORDS}
WEEK_S = 7 * 86_400


@pytest.fixture
def url(store_url):
    """A cache of every kind of layer, with a snapshot."""
    fill(store_url, RECORDS, rejected=["clip-002.mp4"])
    fill_further_layer(store_url, RECORDS)
    snapshot(store_url)
    return store_url


@pytest.fixture
def at(monkeypatch):
    """Let the store say that another time has come."""

    def later(seconds):
        clock = Store.clock
        monkeypatch.setattr(Store, "clock", lambda store: clock(store) + seconds)

    return later


def orphans(url, *kinds):
    """Leave what writers leave that die: shards of each layer, and files of an index."""
    root = open_store(url)
    keys = [key for key in root.list() if "/data/" in key]
    made = []
    for kind in kinds or ("latent/", "text/", "clip/", "snapshots/"):
        head, _, name = next(key for key in keys if key.startswith(kind)).rpartition("/")
        stem, _, suffix = name.partition(".")
        made.append(f"{head}/{stem[:-16]}0123456789abcdef.{suffix}")
        root.put(made[-1], b"left behind")
    return sorted(made)


def test_only_what_nothing_names_goes_and_only_when_it_is_old(url, at):
    root = open_store(url)
    before = root.list()
    left = orphans(url)
    root.put("notes.txt", b"none of ours")
    assert collect_garbage(url) == [], "it is too young"
    at(WEEK_S + 60)
    found = collect_garbage(url, dry_run=True)
    assert [item.key for item in found] == left
    assert {item.size_bytes for item in found} == {len(b"left behind")}
    assert all(WEEK_S < item.age_s < WEEK_S + 120 for item in found)
    assert root.list() == sorted([*before, *left, "notes.txt"])
    assert [item.key for item in collect_garbage(url)] == left
    assert root.list() == sorted([*before, "notes.txt"])
    assert [(item.kind, item.key) for item in verify(url)] == [("foreign", "notes.txt")]
    assert len(list(open_cache(url))) == 6


def test_a_cache_without_litter_loses_nothing_however_old(url, at):
    before = open_store(url).list()
    at(1000 * WEEK_S)
    assert collect_garbage(url, older_than_s=3600) == []
    assert open_store(url).list() == before


def test_what_only_an_old_snapshot_names_stays(url, at):
    """Also when the commits are gone from which it was made."""
    root = open_store(url)
    for key in root.list():
        if "/commits/" in key:
            root.delete(key)
    at(2 * WEEK_S)
    assert collect_garbage(url) == []
    assert len(list(open_cache(url))) == 6


def test_the_age_is_told_by_the_clock_of_the_store(tmp_path, monkeypatch):
    """What our own clock calls old is young on a disk whose clock is as far behind."""
    url = str(tmp_path)
    fill(url, RECORDS)
    past_s = time.time() - 2 * WEEK_S
    for key in orphans(url, "latent/"):
        os.utime(tmp_path / key, (past_s, past_s))
    assert len(collect_garbage(url, dry_run=True)) == 1
    put = Store.put

    def put_behind(store, key, data):
        put(store, key, data)
        os.utime(store.local_path(key), (past_s, past_s))

    monkeypatch.setattr(Store, "put", put_behind)
    assert collect_garbage(url) == []


def test_half_written_files_are_cleared_away(url, at):
    root = open_store(url)
    if url.startswith("s3://"):
        from s3fs import S3FileSystem

        bucket, prefix = root.backend.bucket, root.backend.prefix
        client = S3FileSystem(skip_instance_cache=True)
        client.call_s3("create_multipart_upload", Bucket=bucket, Key=f"{prefix}/latent/half")
    else:
        half = root.local_path("latent") / f".{'0' * 32}.partial"
        half.write_bytes(b"half")
    at(WEEK_S + 60)
    (found,) = collect_garbage(url)
    assert "latent/" in found.key
    assert found.size_bytes is None
    assert root.unfinished() == {}


def test_a_commit_that_comes_while_it_runs_keeps_its_shards(url, at, monkeypatch):
    """One comes just before the files are listed, one just after; the clock calls both old."""
    scan = Store.scan

    def grow_and_scan(store, prefix=""):
        if prefix:
            return scan(store, prefix)
        monkeypatch.setattr(Store, "scan", scan)
        fill(url, [*RECORDS, record(12)], rejected=["clip-002.mp4"])
        found = scan(store)
        fill(url, [*RECORDS, record(12), record(13)], rejected=["clip-002.mp4"])
        return found

    monkeypatch.setattr(Store, "scan", grow_and_scan)
    at(WEEK_S + 60)
    assert collect_garbage(url) == []
    snapshot(url)
    assert verify(url) == []


def test_a_writer_never_takes_up_a_shard_that_may_be_cleared_away_under_it(store_url, at):
    """A dead writer's shard is found old; before it is removed the same bytes are made again."""
    fill(store_url, RECORDS, units=0)
    root = open_store(store_url)
    layer = open_layer(root, latents(config_for(store_url)))
    (first, *_) = missing_work(layer, latent_units(RECORDS, 4))

    def die(**_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("video_platform.latents.layer.Commit", die)
        write_clips(layer, first, BY_ID)
    assert len(layer.store.list("data")) == 1
    delete = Store.delete

    def write_and_delete(store, key):
        if "/data/" in key:
            assert write_clips(layer, first, BY_ID)
        delete(store, key)

    at(WEEK_S + 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "delete", write_and_delete)
        assert len(collect_garbage(store_url)) == 1
    assert verify(store_url) == []
    assert len(layer.commit(first.unit.id).entries) == len(first.unit.members)


def test_a_snapshot_never_takes_up_a_file_that_may_be_cleared_away_under_it(url, at):
    root = open_store(url)
    (number,) = [key for key in root.list("snapshots") if key.endswith(".json")]
    root.delete(number)  # as if it had died before
    left = root.list("snapshots/data")
    delete = Store.delete

    def freeze_and_delete(store, key):
        if key == left[0]:
            snapshot(url)
        delete(store, key)

    at(WEEK_S + 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "delete", freeze_and_delete)
        assert [item.key for item in collect_garbage(url)] == left
    assert verify(url) == []
    assert len(list(open_cache(url))) == 6


@pytest.mark.parametrize("pattern", ["SPEC.json", "/commits/", "snapshots/1.json"])
def test_nothing_is_removed_while_something_that_may_name_it_is_damaged(url, at, pattern):
    root = open_store(url)
    orphans(url)
    key = next(key for key in root.list() if pattern in key)
    data = root.read(key)
    root.put(key, data[:30] + bytes([data[30] ^ 1]) + data[31:])
    before = root.list()
    at(2 * WEEK_S)
    with pytest.raises(CorruptCacheError, match="nothing was removed"):
        collect_garbage(url)
    assert root.list() == before


def test_an_age_that_is_not_safe_is_refused(url, tmp_path):
    with pytest.raises(CacheError, match=r"younger than 3600 s .*older-than\) is 60"):
        collect_garbage(url, older_than_s=60)
    with pytest.raises(CacheError, match="holds no latent cache"):
        collect_garbage(str(tmp_path / "empty"))
