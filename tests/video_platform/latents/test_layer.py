"""Units are committed once, whole, whatever happens to their writers."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.video_platform.latents.toy import (
    config_for,
    encode,
    frames_of,
    latents,
    plan_for,
    record,
    write_clips,
)
from video_platform.errors import CacheError
from video_platform.latents.layer import find_layer, open_layer, read_layer
from video_platform.latents.manifest import latent_units, load_manifest, load_plan
from video_platform.latents.sealed import seal
from video_platform.latents.work import missing_work
from video_platform.storage import Store, open_store

RECORDS = [record(number) for number in range(10)]
BY_ID = {item.id: item for item in RECORDS}


def empty_layer(url):
    root = open_store(url)
    plan_for(root, RECORDS, config_for(url))
    return open_layer(root, latents(config_for(url)))


def all_work(layer, records=RECORDS):
    return missing_work(layer, latent_units(records, 4))


def test_of_many_writers_of_one_unit_one_commits(store_url):
    layer = empty_layer(store_url)
    work = all_work(layer)[0]
    start = threading.Barrier(4)

    def write(_):
        start.wait()
        return write_clips(layer, work, BY_ID)

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(write, range(4))) == [False, False, False, True]
    assert layer.committed() == {work.unit.id}
    assert [e.id for e in layer.commit(work.unit.id).entries] == [m.id for m in work.unit.members]


def test_a_writer_that_dies_before_its_commit_leaves_the_unit_to_be_done(tmp_path, monkeypatch):
    layer = empty_layer(str(tmp_path))
    work = all_work(layer)[0]
    put = Store.put_if_absent

    def dies(store, key, data):
        if key.startswith("commits/"):
            raise KeyboardInterrupt
        return put(store, key, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "put_if_absent", dies)
        write_clips(layer, work, BY_ID)
    assert len(layer.store.list("data")) == 1
    assert len(all_work(layer)) == len(latent_units(RECORDS, 4))
    (left,) = layer.store.list("data")
    assert write_clips(layer, work, BY_ID)
    (made,) = layer.commit(work.unit.id).shards
    assert made != left, "what a dead writer left may be cleared away at any time"
    assert layer.store.exists(made)


def test_a_damaged_shard_of_the_same_name_is_replaced(tmp_path):
    layer = empty_layer(str(tmp_path))
    work = all_work(layer)[0]
    write_clips(layer, work, BY_ID)
    (key,) = layer.store.list("data")
    good = layer.store.read(key)
    layer.store.put(key, good[:-1] + b"?")
    layer.store.delete(f"commits/{work.unit.id}.json")
    assert write_clips(layer, work, BY_ID)
    assert layer.store.read(key) == good


def test_a_unit_that_is_not_whole_is_refused(tmp_path):
    layer = empty_layer(str(tmp_path))
    work = all_work(layer)[0]
    with pytest.raises(ValueError, match="not whole"):
        layer.write(work.unit, [])
    assert layer.committed() == set()


def test_a_changed_file_is_the_only_one_that_is_encoded_again(tmp_path):
    layer = empty_layer(str(tmp_path))
    for work in all_work(layer):
        write_clips(layer, work, BY_ID, rejected=["clip-003.mp4"])
    changed = [
        dataclasses.replace(item, identity="new") if item.id == "clip-005.mp4" else item
        for item in RECORDS
    ]
    (work,) = all_work(layer, changed)
    assert work.wanted == ("clip-005.mp4",)
    assert write_clips(layer, work, {item.id: item for item in changed})
    commit = layer.commit(work.unit.id)
    assert len(commit.shards) == 2
    assert {t.key for e in commit.entries for t in e.tensors.values()} == set(commit.shards)


def test_other_sizes_of_units_encode_nothing_again(tmp_path):
    layer = empty_layer(str(tmp_path))
    for work in all_work(layer):
        write_clips(layer, work, BY_ID, rejected=["clip-003.mp4"])
    (work,) = missing_work(layer, latent_units(RECORDS, 100))
    assert work.wanted == ()
    layer.write(work.unit, [], known=work.known)
    commit = layer.commit(work.unit.id)
    assert [reject.id for reject in commit.rejects] == ["clip-003.mp4"]
    assert len(commit.entries) == 9


def test_a_renamed_file_keeps_its_latents_under_the_new_id(tmp_path):
    layer = empty_layer(str(tmp_path))
    for work in all_work(layer):
        write_clips(layer, work, BY_ID)
    renamed = [dataclasses.replace(RECORDS[0], id="other.mp4"), *RECORDS[1:]]
    for work in all_work(layer, renamed):
        assert work.wanted == ()
        layer.write(work.unit, [], known=work.known)
    commits = layer.commits(unit.id for unit in latent_units(renamed, 4))
    found = {entry.id: entry for commit in commits for entry in commit.entries}
    assert sorted(found) == sorted(item.id for item in renamed)


def test_a_caption_or_a_program_changes_no_unit():
    changed = [dataclasses.replace(r, caption="new", program={"a": 1}) for r in RECORDS]
    assert latent_units(changed, 4) == latent_units(RECORDS, 4)


def test_the_statistics_are_those_of_what_is_stored(tmp_path):
    layer = empty_layer(str(tmp_path))
    work = all_work(layer)[0]
    write_clips(layer, work, BY_ID)
    entry = layer.commit(work.unit.id).entries[0]
    mean = encode(frames_of(BY_ID[entry.id])[None])[0][0].double()
    assert entry.channel_sum == pytest.approx(mean.sum((1, 2, 3)).tolist())
    assert entry.channel_square_sum == pytest.approx(mean.square().sum((1, 2, 3)).tolist())


def test_a_layer_is_opened_only_as_what_it_is(tmp_path):
    root, config = open_store(str(tmp_path)), config_for(str(tmp_path))
    assert find_layer(root, latents(config)) is None
    layer = open_layer(root, latents(config, information={"first": 1}))
    again = open_layer(root, latents(config, information={"second": 2}))
    assert again.spec.information == {"first": 1}, "the first SPEC is kept"
    assert read_layer(root, layer.spec.folder).spec == layer.spec
    other = dataclasses.replace(layer.spec, identity={"x": 1})
    root.put(f"{layer.spec.folder}/SPEC.json", seal(other.to_json()))
    with pytest.raises(CacheError, match="belongs to another layer: autoencoder is None"):
        open_layer(root, latents(config))


def test_a_manifest_and_the_newest_plan_are_read_back(tmp_path):
    root = open_store(str(tmp_path))
    first = plan_for(root, RECORDS, config_for("x"))
    second = plan_for(root, RECORDS[:3], config_for("x"))
    assert load_manifest(root, first.source) == RECORDS
    assert load_plan(root) == second
    first.save(root)
    assert load_plan(root) == first
    assert load_plan(root, second.id) == second
    with pytest.raises(CacheError, match="no plan nothing; known: "):
        load_plan(root, "nothing")
