"""Reading samples of a snapshot back."""

import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.video_platform.latents.toy import (
    POLICY,
    config_for,
    embed,
    encode,
    fill,
    frames_of,
    latents,
    record,
)
from video_platform.errors import CacheError, CorruptCacheError, StaleCacheError
from video_platform.latents import check_matches, open_cache, snapshot
from video_platform.latents.spec import text_spec
from video_platform.storage import Store, open_store
from video_platform.video.policy import ClipSize

RECORDS = [record(number) for number in range(7)]
RECORDS[1] = dataclasses.replace(RECORDS[1], caption=None)
RECORDS[2] = dataclasses.replace(RECORDS[2], program={"objects": [1, 2]})


@pytest.fixture
def url(store_url):
    fill(store_url, RECORDS)
    snapshot(store_url)
    return store_url


@pytest.fixture
def disk(tmp_path):
    fill(str(tmp_path), RECORDS)
    snapshot(str(tmp_path))
    return str(tmp_path)


def shard_of(cache, place=0):
    return cache._index[place].mean.key


def test_every_sample_is_what_was_encoded(url):
    cache = open_cache(url)
    assert len(cache) == len(RECORDS)
    for place, made in enumerate(RECORDS):
        mean, logvar = encode(frames_of(made)[None])
        sample = cache[place]
        assert sample.id == made.id
        assert sample.caption == (made.caption or "")
        assert sample.program == made.program
        assert torch.equal(sample.mean, mean[0])
        assert torch.equal(sample.logvar, logvar[0])
        assert torch.equal(sample.text["toy"], embed(made.caption or ""))
    assert torch.equal(cache.empty_text("toy"), embed(""))


def test_bfloat16_is_stored_rounded_and_read_as_float32(tmp_path):
    fill(str(tmp_path), RECORDS, stored="bfloat16")
    snapshot(str(tmp_path))
    sample = open_cache(str(tmp_path))[0]
    mean, _ = encode(frames_of(RECORDS[0])[None])
    assert sample.mean.dtype == torch.float32
    assert torch.equal(sample.mean, mean[0].bfloat16().float())


def test_what_the_cache_knows_without_reading_a_tensor(disk, monkeypatch):
    cache = open_cache(disk)
    monkeypatch.setattr(cache, "_spans", None)
    assert cache.shapes == [(3, 2, 2, 2)] * 7
    assert cache.captions[0] == "caption 0"
    assert cache.encoders == ["toy"]
    assert cache.spec.identity["autoencoder"] == "a" * 64
    assert cache.fingerprint == cache.spec.fingerprint
    assert cache.text_specs["toy"].identity["encoder"] == {"name": "toy"}
    assert cache.snapshot == 1
    assert len(cache.snapshot_id) == 64


def test_places_count_from_the_end_and_stop_at_the_end(disk):
    cache = open_cache(disk)
    assert cache[-1].id == RECORDS[-1].id
    with pytest.raises(IndexError, match="sample 7 of 7"):
        cache[7]
    assert len(list(cache)) == 7


def test_a_sample_takes_one_read_a_layer_of_no_more_than_its_bytes(s3_url, monkeypatch):
    fill(s3_url, RECORDS)
    snapshot(s3_url)
    cache = open_cache(s3_url)
    _ = cache[0]  # the index is fetched
    reads = []
    read = Store.read

    def counted(store, key, *, start=0, end=None):
        reads.append((key.split("/")[0], end - start))
        return read(store, key, start=start, end=end)

    monkeypatch.setattr(Store, "read", counted)
    _ = cache[3]
    assert reads == [("latent", 2 * 3 * 2 * 2 * 2 * 4), ("text", 3 * 2 * 4)]


def test_a_copy_in_another_process_reads_the_same_snapshot(disk):
    cache = open_cache(disk)
    _ = cache[0]
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.snapshot_id == cache.snapshot_id
    assert torch.equal(copy[2].mean, cache[2].mean)
    shipped = pickle.dumps(cache)
    root = open_store(disk)
    root.delete("snapshots/1.json")
    fill(disk, RECORDS[:5])
    snapshot(disk)
    with pytest.raises(CorruptCacheError, match="not the one"):
        pickle.loads(shipped)


def test_many_threads_read_one_cache(url):
    cache = open_cache(url)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: cache[i % 7].id, range(70)))
    assert found == [RECORDS[i % 7].id for i in range(70)]


def test_what_is_read_belongs_to_the_reader(disk):
    cache = open_cache(disk)
    cache[0].mean.zero_()
    assert cache[0].mean.any()


def test_a_flipped_byte_is_an_error_and_names_the_shard(url):
    cache = open_cache(url)
    root, key = open_store(url), shard_of(cache)
    data = bytearray(root.read(key))
    data[cache._index[0].mean.offset] ^= 1
    root.put(key, bytes(data))
    with pytest.raises(CorruptCacheError, match=f"{key} do not match their checksum"):
        _ = open_cache(url)[0]


def test_a_truncated_shard_is_an_error(url):
    cache = open_cache(url)
    root, key = open_store(url), shard_of(cache)
    root.put(key, root.read(key)[: cache._index[0].logvar.offset + 3])
    with pytest.raises(CorruptCacheError, match="truncated"):
        _ = open_cache(url)[0]


def test_an_empty_shard_is_an_error(disk):
    open_store(disk).put(shard_of(open_cache(disk)), b"")
    with pytest.raises(CorruptCacheError, match="truncated"):
        _ = open_cache(disk)[0]


def test_a_missing_shard_is_an_error(url):
    cache = open_cache(url)
    open_store(url).delete(shard_of(cache))
    with pytest.raises(CorruptCacheError, match="lacks latent/"):
        _ = cache[0]


def test_a_snapshot_that_is_not_there_is_an_error_that_lists_those_that_are(disk, tmp_path):
    with pytest.raises(CacheError, match=r"no snapshot 5 in .*; there are \[1\]"):
        open_cache(disk, snapshot=5)
    with pytest.raises(CacheError, match="run `vdp precompute` first"):
        open_cache(str(tmp_path / "nowhere"))


def test_a_stale_cache_is_refused_in_one_message_that_names_every_difference(disk):
    cache = open_cache(disk)
    config, text = config_for(disk), {"toy": text_layer()}
    check_matches(cache, latents(config), sizes=[POLICY.size], text=text)
    other = latents(
        config_for(disk, compute="bfloat16"),
        autoencoder_fingerprint="b" * 64,
        policy=dataclasses.replace(POLICY, fps=9.0),
    )
    spec = text_spec("toy", identity={"name": "toy", "dim": 8}, stored="float32")
    with pytest.raises(StaleCacheError) as error:
        check_matches(
            cache, other, sizes=[ClipSize(9, 16, 16)], text={"toy": spec, "t5": text_layer()}
        )
    for difference in (
        f"autoencoder is '{'a' * 64}', not '{'b' * 64}'",
        "encode.compute is 'float32', not 'bfloat16'",
        "pixels.fps is 8.0, not 9.0",
        "it holds clips of 5x16x16, the recipe makes 9x16x16",
        "text.toy.encoder.dim is None, not 8",
        "it holds no text 't5', only toy",
        "run `vdp precompute` with this recipe",
    ):
        assert difference in str(error.value)
    assert "stored" not in str(error.value)


def text_layer():
    return text_spec("toy", identity={"name": "toy"}, stored="float32")
