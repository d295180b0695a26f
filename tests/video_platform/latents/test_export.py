"""A cache in other trainers' formats, read back by small readers of the published formats."""

import io
import itertools
import json
import struct
import tarfile

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.video_platform.latents.toy import POLICY, fill, fill_further_layer, record
from video_platform.errors import CacheError, ConfigError, CorruptCacheError
from video_platform.latents import export_cache, open_cache, snapshot
from video_platform.latents.export_mds import MDS
from video_platform.latents.reader import StoredSample
from video_platform.latents.sealed import unseal
from video_platform.storage import Store, open_store
from video_platform.video.policy import ClipSize

WIDE = ClipSize(5, 16, 24)
RECORDS = [record(number, size=WIDE if number % 3 else POLICY.size) for number in range(11)]
RECORDS[2] = record(2, caption=None, program={"objects": [1, "grün"]})
SHARD_BYTES = 700


@pytest.fixture
def cache(tmp_path):
    """Latents in bfloat16, embeddings, and whole numbers of a further layer."""
    fill(str(tmp_path / "cache"), RECORDS, stored="bfloat16")
    fill_further_layer(str(tmp_path / "cache"), RECORDS)
    snapshot(str(tmp_path / "cache"))
    return open_cache(str(tmp_path / "cache"))


def read_webdataset(root):
    """Read tar shards with the standard library."""
    names = [entry["url"] for entry in json.loads(root.read("index.json"))["shardlist"]]
    for name in names:
        samples = {}
        with tarfile.open(fileobj=io.BytesIO(root.read(name))) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                samples.setdefault(key, {})[ending] = tar.extractfile(member).read()
        assert list(samples) == sorted(samples)
        for files in samples.values():
            facts = json.loads(files["json"])
            assert files["txt"].decode() == facts["caption"]
            yield StoredSample(**facts, tensors=safetensors.torch.load(files["safetensors"]))


def read_mds(root):
    """Read MDS shards as the format is described, with numpy."""
    shards = json.loads(root.read("index.json"))["shards"]
    bits = unseal(root.read("export.json"), "export.json")["bfloat16"]
    for shard in shards:
        assert (shard["version"], shard["format"], shard["compression"]) == (2, "mds", None)
        data = root.read(shard["raw_data"]["basename"])
        assert len(data) == shard["raw_data"]["bytes"]
        (count,) = struct.unpack_from("<I", data)
        assert count == shard["samples"]
        ends = struct.unpack_from(f"<{count + 1}I", data, 4)
        assert ends[-1] == len(data)
        config = json.loads(data[4 * (count + 2) : ends[0]])
        assert all(shard[name] == value for name, value in config.items())
        for start, end in itertools.pairwise(ends):
            row = decode_mds(data[start:end], shard)
            plain = {name: row.pop(name) for name in ("id", "caption", "program")}
            tensors = {n: torch.from_numpy(a.copy()) for n, a in row.items()}
            tensors |= {name: tensors[name].view(torch.bfloat16) for name in bits}
            yield StoredSample(**plain, tensors=tensors)


def decode_mds(data, shard):
    names, encodings = shard["column_names"], shard["column_encodings"]
    sizes = np.frombuffer(data[: 4 * len(names)], "<u4").tolist()
    row, at = {}, 4 * len(names)
    for name, encoding, size in zip(names, encodings, sizes, strict=True):
        row[name] = decode_column(encoding, data[at : at + size])
        at += size
    assert at == len(data)
    return row


def decode_column(encoding, data):
    if encoding == "str":
        return data.decode()
    if encoding == "json":
        return json.loads(data)
    axes, width = data[0] >> 2, 2 ** (data[0] & 3)
    shape = np.frombuffer(data[1 : 1 + axes * width], f"<u{width}").tolist()
    return np.frombuffer(data[1 + axes * width :], encoding.removeprefix("ndarray:")).reshape(shape)


READERS = {"mds": read_mds, "webdataset": read_webdataset}


def assert_same(found, cache):
    assert len(found) == len(cache)
    for place, sample in enumerate(found):
        held = cache.stored(place)
        assert (sample.id, sample.caption, sample.program) == (held.id, held.caption, held.program)
        assert sample.tensors.keys() == held.tensors.keys()
        for name, tensor in held.tensors.items():
            assert sample.tensors[name].dtype == tensor.dtype
            assert torch.equal(sample.tensors[name], tensor)


def test_samples_are_read_as_they_are_stored(cache):
    for place, sample in enumerate(cache):
        held = cache.stored(place)
        assert held.tensors.keys() == {"mean", "logvar", "text/toy", "clip/codes/code"}
        assert held.tensors["mean"].dtype == torch.bfloat16
        assert held.tensors["clip/codes/code"].dtype == torch.int32
        assert torch.equal(held.tensors["mean"].float(), sample.mean)
        assert torch.equal(held.tensors["text/toy"].float(), sample.text["toy"])
        size = sum(t.numel() * t.element_size() for t in held.tensors.values())
        assert cache.sizes_bytes()[place] == size


@pytest.mark.parametrize("format", sorted(READERS))
def test_every_sample_comes_back_without_loss(cache, format, store_url):
    told = []
    made = export_cache(
        cache,
        store_url,
        format=format,
        shard_bytes=SHARD_BYTES,
        on_shard=lambda done, shards: told.append((done, shards)),
    )
    assert_same(list(READERS[format](open_store(store_url))), cache)
    assert made.samples == 11
    assert made.shards == made.written == len(told) > 2
    assert told[-1] == (made.shards, made.shards)


@pytest.mark.parametrize("format", sorted(READERS))
def test_a_killed_export_goes_on_where_it_was(cache, format, tmp_path, monkeypatch):
    whole, broken = open_store(str(tmp_path / "whole")), open_store(str(tmp_path / "broken"))
    export_cache(cache, whole.url, format=format, shard_bytes=SHARD_BYTES)
    put, puts = Store.put, []

    def dies(store, key, data):
        puts.append(key)
        if len(puts) == 3:
            raise KeyboardInterrupt
        put(store, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", dies)
        with pytest.raises(KeyboardInterrupt):
            export_cache(cache, broken.url, format=format, shard_bytes=SHARD_BYTES)
    assert not broken.exists("index.json"), "a reader sees no dataset before it is whole"
    made = export_cache(cache, broken.url, format=format, shard_bytes=SHARD_BYTES)
    assert made.written == made.shards - 2
    assert broken.list() == whole.list()
    assert all(broken.read(key) == whole.read(key) for key in whole.list())


def test_another_export_in_the_same_folder_is_refused(cache, tmp_path):
    out = str(tmp_path / "out")
    export_cache(cache, out, format="mds", shard_bytes=SHARD_BYTES)
    with pytest.raises(CacheError, match=r"format is 'mds', not 'webdataset'.*another folder"):
        export_cache(cache, out, format="webdataset", shard_bytes=SHARD_BYTES)
    with pytest.raises(CacheError, match="shard_bytes is 700, not 800"):
        export_cache(cache, out, format="mds", shard_bytes=800)


def test_a_sample_larger_than_a_shard_has_one_to_itself(cache, tmp_path):
    made = export_cache(cache, str(tmp_path / "out"), format="webdataset", shard_bytes=1)
    assert made.shards == made.samples
    with pytest.raises(CacheError, match="shard_bytes = 0"):
        export_cache(cache, str(tmp_path / "none"), format="webdataset", shard_bytes=0)
    with pytest.raises(ConfigError, match="unknown format 'zip'; known: mds, webdataset"):
        export_cache(cache, str(tmp_path / "none"), format="zip", shard_bytes=1)


def test_damage_is_found_on_the_way(cache, tmp_path):
    root, record = open_store(cache.url), cache._index[5].mean
    data = bytearray(root.read(record.key))
    data[record.offset] ^= 1
    root.put(record.key, bytes(data))
    with pytest.raises(CorruptCacheError, match="do not match their checksum"):
        export_cache(
            open_cache(cache.url), str(tmp_path / "out"), format="mds", shard_bytes=SHARD_BYTES
        )
    assert not open_store(str(tmp_path / "out")).exists("index.json")


def test_what_mds_cannot_hold_is_an_error_that_names_the_sample():
    def sample(**tensors):
        return StoredSample(id="clip", caption="", program=None, tensors=tensors)

    layout = MDS(sample(mean=torch.ones(2, 300), a=torch.ones(70_000, dtype=torch.uint8)))
    assert layout.shard([sample(mean=torch.ones(3, 1), a=torch.ones(1, dtype=torch.uint8))], 0)
    for tensors in ({"mean": torch.ones(1)}, {"mean": torch.ones(1), "a": torch.ones(1)}):
        with pytest.raises(CacheError, match=r"clip has .*: not the tensors of the first sample"):
            layout.shard([sample(**tensors)], 0)
    with pytest.raises(CacheError, match="clip has a tensor of no values"):
        MDS(sample(mean=torch.ones(0, 3))).shard([sample(mean=torch.ones(0, 3))], 0)


def test_the_card_says_what_the_latents_were_made_by(cache, tmp_path):
    root = open_store(str(tmp_path / "out"))
    export_cache(cache, root.url, format="mds", shard_bytes=SHARD_BYTES)
    card = unseal(root.read("export.json"), "export.json")
    assert card["latent"]["fingerprint"] == cache.fingerprint
    assert card["snapshot_id"] == cache.snapshot_id
    assert card["bfloat16"] == ["logvar", "mean", "text/toy"]
    assert (card["mean"], card["std"]) == (list(cache.header.mean), list(cache.header.std))
