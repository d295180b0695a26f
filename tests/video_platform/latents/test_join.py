"""Rows of a snapshot: the same as an obvious join makes, whatever was known before."""

import dataclasses
import json
import shutil

import pytest
import torch

from tests.video_platform.latents.toy import POLICY, fill, fill_further_layer, record
from video_platform.errors import CorruptCacheError
from video_platform.latents import index, open_cache, snapshot, source
from video_platform.latents.layer import read_layer
from video_platform.latents.manifest import caption_key, load_manifest, load_plan
from video_platform.latents.sealed import seal, unseal
from video_platform.latents.snapshots import load_index, load_snapshot
from video_platform.storage import Store, open_store
from video_platform.video.policy import ClipSize

WIDE = ClipSize(5, 16, 24)
RECORDS = [record(number, size=WIDE if number % 3 else POLICY.size) for number in range(17)]
REJECTED = ["clip-004.mp4", "clip-011.mp4"]
GROWN = [
    *(r for r in RECORDS if r.id != "clip-002.mp4"),
    dataclasses.replace(record(20), caption="another"),
    record(5, id="clip-021.mp4", key="clip-021.mp4", caption=None, program={"a": 1}),
]


@pytest.fixture(params=[1 << 18, 5])
def rows_a_file(request, monkeypatch):
    """Many rows a file, and few."""
    monkeypatch.setattr(index, "ROWS", request.param)
    monkeypatch.setattr(source, "ROWS", request.param)


def entries_of(root, folder):
    layer = read_layer(root, folder)
    return {e.id: e for commit in layer.commits(layer.committed()) for e in commit.entries}


def slow_rows(url):
    """Join with dictionaries, one object a sample."""
    root = open_store(url)
    plan = load_plan(root)
    latent, clip = (
        entries_of(root, plan.latent),
        {n: entries_of(root, f) for n, f in plan.clip.items()},
    )
    text = {name: entries_of(root, folder) for name, folder in plan.text.items()}
    rows = []
    for item in load_manifest(root, plan.source):
        own = {"": latent.get(item.id)}
        own |= {f"text/{name}": text[name].get(caption_key(item.caption)) for name in text}
        own |= {f"clip/{name}/": clip[name].get(item.id) for name in clip}
        if all(own.values()):
            bucket = "x".join(map(str, own[""].tensors["mean"].shape))
            places = {}
            for prefix, entry in own.items():
                folder = {"": plan.latent, **{f"text/{n}": f for n, f in plan.text.items()}}
                folder |= {f"clip/{n}/": f for n, f in plan.clip.items()}
                for tensor, place in entry.tensors.items():
                    name = prefix if prefix.startswith("text/") else prefix + tensor
                    key = f"{folder[prefix]}/{place.key}"
                    places[name] = dataclasses.replace(place, key=key)
            rows.append((bucket, item.id, item.caption or "", item.program, places))
    return sorted(rows, key=lambda row: row[:2])


def fast_rows(url):
    root = open_store(url)
    rows = load_index(root, load_snapshot(root))
    return [
        (row.bucket, row.id, row.caption, row.program and json.loads(row.program), row.tensors)
        for row in (rows[place] for place in range(len(rows)))
    ]


def test_rows_are_those_of_an_obvious_join(tmp_path, rows_a_file):
    fill(str(tmp_path), RECORDS, rejected=REJECTED)
    snapshot(str(tmp_path))
    assert fast_rows(str(tmp_path)) == slow_rows(str(tmp_path))
    fill(str(tmp_path), GROWN, rejected=REJECTED)
    snapshot(str(tmp_path))
    assert fast_rows(str(tmp_path)) == slow_rows(str(tmp_path))
    fill_further_layer(str(tmp_path), GROWN)
    snapshot(str(tmp_path))
    assert fast_rows(str(tmp_path)) == slow_rows(str(tmp_path))


def test_what_was_known_before_leaves_no_trace(tmp_path, rows_a_file):
    """A snapshot upon snapshots is that of a cache that had none, byte by byte."""
    url, other = str(tmp_path / "cache"), str(tmp_path / "other")
    fill(url, RECORDS, rejected=REJECTED, units=3)
    snapshot(url, partial=True)
    fill(url, RECORDS, rejected=REJECTED)
    snapshot(url)
    fill(url, GROWN, rejected=REJECTED)
    fill_further_layer(url, GROWN)
    shutil.copytree(url, other)
    shutil.rmtree(tmp_path / "other" / "snapshots")
    later, fresh = snapshot(url), snapshot(other)
    assert (later.number, fresh.number) == (3, 1)
    assert dataclasses.replace(later, number=1, id="") == dataclasses.replace(fresh, id="")


def test_a_commit_that_a_snapshot_knows_is_not_read_again(tmp_path, monkeypatch):
    fill(str(tmp_path), RECORDS, rejected=REJECTED)
    snapshot(str(tmp_path))
    before = {key for key in open_store(str(tmp_path)).list() if "/commits/" in key}
    fill(str(tmp_path), GROWN, rejected=REJECTED)
    fill_further_layer(str(tmp_path), GROWN)
    reads, read = [], Store.read

    def counted(store, key, **span):
        reads.append(key)
        return read(store, key, **span)

    monkeypatch.setattr(Store, "read", counted)
    for again in (False, True):
        reads.clear()
        assert snapshot(str(tmp_path)).number == 2
        commits = {key for key in reads if "/commits/" in key}
        if not again:
            assert commits - before, "what is new is read"
        assert not commits & before
        before |= commits


def test_an_earlier_snapshot_that_is_damaged_is_not_believed_and_is_mended(tmp_path, caplog):
    fill(str(tmp_path), RECORDS)
    first = snapshot(str(tmp_path))
    root = open_store(str(tmp_path))
    for file in first.index.all:
        data = root.read(file.key)
        root.put(file.key, data[:-9] + b"?" + data[-8:])
        caplog.clear()
        assert snapshot(str(tmp_path)) == first
        assert f"{file.key} is damaged" in caplog.text
        assert root.read(file.key) == data


def test_a_commit_of_other_samples_is_refused(tmp_path):
    fill(str(tmp_path), RECORDS)
    root = open_store(str(tmp_path))
    key = next(key for key in root.list("latent") if "/commits/" in key)
    tree = unseal(root.read(key), key)
    tree.pop("sha256")
    tree["id"][0] = "clip-999.mp4"
    root.put(key, seal(tree))
    with pytest.raises(CorruptCacheError, match=f"{key} holds other samples than its unit"):
        snapshot(str(tmp_path))


def test_a_commit_that_changes_is_read_again(tmp_path):
    """A unit that was deleted by hand and made again is another commit under the same name."""
    fill(str(tmp_path), RECORDS)
    first = snapshot(str(tmp_path))
    root = open_store(str(tmp_path))
    key = next(key for key in root.list("latent") if "/commits/" in key)
    root.delete(key)
    fill(str(tmp_path), RECORDS, rejected=[r.id for r in RECORDS])
    second = snapshot(str(tmp_path))
    assert (first.number, second.number) == (1, 2)
    assert second.clips < first.clips
    assert second.rejects == {"corrupt": first.clips - second.clips}


def test_a_clip_that_a_further_layer_refuses_is_no_row_and_is_counted(tmp_path):
    fill(str(tmp_path), RECORDS, rejected=REJECTED)
    fill_further_layer(str(tmp_path), RECORDS, rejected=["clip-004.mp4", "clip-007.mp4"])
    made = snapshot(str(tmp_path))
    assert made.rejects == {"clip/codes": 1, "corrupt": 2}
    assert made.clips == len(RECORDS) - 3
    cache = open_cache(str(tmp_path))
    assert "clip-007.mp4" not in cache.ids
    values = torch.cat([sample.mean.double().flatten(1) for sample in cache], dim=1)  # (C, N)
    mean, std = cache.statistics()
    assert mean.numpy() == pytest.approx(values.mean(1).numpy(), abs=1e-6)
    assert std.numpy() == pytest.approx(values.std(1, correction=0).numpy(), abs=1e-6)


def test_sums_are_taken_anew_where_other_clips_of_a_unit_become_rows(tmp_path):
    """A unit may be known whole by a snapshot in which only some of its clips were rows."""
    url, other = str(tmp_path / "cache"), str(tmp_path / "other")
    fill(url, RECORDS)
    shutil.copytree(url, other)
    root = open_store(url)
    taken = {key: root.read(key) for key in root.list("text") if "/commits/" in key}
    for key, data in taken.items():
        root.delete(key)
        if caption_key("") not in data.decode():
            assert 0 < snapshot(url, partial=True).clips < len(RECORDS)
        root.put(key, data)
    whole, fresh = snapshot(url), snapshot(other)
    assert (whole.mean, whole.std, whole.index.rows) == (fresh.mean, fresh.std, fresh.index.rows)


def test_a_further_layer_is_added_without_touching_latents_and_is_read(tmp_path):
    fill(str(tmp_path), RECORDS)
    snapshot(str(tmp_path))
    root = open_store(str(tmp_path))
    before = {key: root.stat(key).identity for key in root.list("latent")}
    old = open_cache(str(tmp_path))
    folder = fill_further_layer(str(tmp_path), RECORDS)
    snapshot(str(tmp_path))
    assert {key: root.stat(key).identity for key in root.list("latent")} == before
    cache = open_cache(str(tmp_path))
    assert (old.layers, cache.layers) == ([], ["codes"])
    assert cache.header.clip == {"codes": folder}
    for one, other in zip(cache, old, strict=True):
        assert torch.equal(one.mean, other.mean)
        assert one.layers.keys() == {"codes"}
        assert torch.equal(one.layers["codes"]["code"], torch.arange(4, dtype=torch.int32))
