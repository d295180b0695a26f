"""`verify` finds damage, tells it from litter, and says how to mend it."""

import re

import pytest

from tests.video_platform.latents.toy import fill, fill_further_layer, record
from video_platform.errors import CacheError
from video_platform.latents import info, open_cache, snapshot, verify
from video_platform.storage import Store, open_store

RECORDS = [record(number) for number in range(7)]


@pytest.fixture
def url(tmp_path):
    fill(str(tmp_path), RECORDS, rejected=["clip-002.mp4"])
    snapshot(str(tmp_path))
    return str(tmp_path)


def shards(url, layer="latent"):
    return [key for key in open_store(url).list(layer) if "/data/" in key]


def kinds(findings):
    return [(finding.kind, finding.harmful) for finding in findings]


def test_a_sound_cache_has_no_findings(store_url):
    fill(store_url, RECORDS)
    snapshot(store_url)
    assert verify(store_url) == []
    assert verify(store_url, snapshot=1) == []


@pytest.mark.parametrize("layer", ["latent", "text"])
def test_a_flipped_byte_anywhere_in_a_shard_is_found(url, layer):
    root, key = open_store(url), shards(url, layer)[0]
    data = root.read(key)
    for place in (0, 9, len(data) // 2, len(data) - 1):
        root.put(key, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        found = verify(url)
        assert kinds(found) == [("changed", True)]
        assert found[0].key == key


def test_a_truncated_shard_is_found(url):
    root, key = open_store(url), shards(url)[0]
    root.put(key, root.read(key)[:-5])
    found = verify(url)
    assert kinds(found) == [("truncated", True)]
    assert re.match(r"it has \d+ of \d+ bytes; delete latent/", found[0].message)
    assert kinds(verify(url, snapshot=1)) == [("truncated", True)]


def test_a_missing_shard_is_found_by_its_commit_and_by_the_snapshot(url):
    root, key = open_store(url), shards(url)[0]
    root.delete(key)
    found = verify(url)
    assert kinds(found) == [("missing", True)] * 2
    assert {finding.key for finding in found} == {key}
    assert kinds(verify(url, snapshot=1)) == [("missing", True)]


@pytest.mark.parametrize(
    "pattern",
    [r"latent/.*/commits/", r"text/.*/commits/", r"SPEC\.json", r"sources/", r"plans/", r"1\.json"],
)
def test_a_flipped_byte_in_a_small_file_is_found(url, pattern):
    root = open_store(url)
    key = next(key for key in root.list() if re.search(pattern, key))
    data = root.read(key)
    root.put(key, data[:30] + bytes([data[30] ^ 1]) + data[31:])
    found = [finding for finding in verify(url) if finding.harmful]
    assert [finding.kind for finding in found] == ["damaged"]
    assert key.startswith(found[0].key.removesuffix("SPEC.json"))


def test_a_flipped_byte_anywhere_in_the_index_is_found(url):
    root = open_store(url)
    files = root.list("snapshots/data")
    assert len(files) == 4, "rows, shards, units and rest"
    for key in files:
        data = root.read(key)
        root.put(key, data[:50] + bytes([data[50] ^ 1]) + data[51:])
        assert kinds(verify(url)) == kinds(verify(url, snapshot=1)) == [("damaged", True)]
        root.delete(key)
        assert kinds(verify(url)) == [("damaged", True)]
        root.put(key, data)
    assert verify(url) == []


def test_a_cache_that_is_being_filled_is_sound(url, monkeypatch):
    """A unit that comes after the listing is neither missing nor foreign."""
    listing = Store.list

    def list_and_grow(store, prefix=""):
        keys = listing(store, prefix)
        if not prefix and store.url == url:
            monkeypatch.undo()
            fill(url, [*RECORDS, record(12)], rejected=["clip-002.mp4"])
        return keys

    monkeypatch.setattr(Store, "list", list_and_grow)
    assert verify(url) == []
    assert len(shards(url)) > 2


def test_a_further_layer_is_checked_as_the_others_are(url):
    root = open_store(url)
    layer = fill_further_layer(url, RECORDS)
    snapshot(url)
    assert verify(url) == []
    key = shards(url, layer)[0]
    root.put(key, root.read(key)[:-1])
    assert kinds(verify(url)) == [("truncated", True)]
    assert kinds(verify(url, snapshot=2)) == [("truncated", True)]
    root.delete(key)
    assert kinds(verify(url)) == [("missing", True)] * 2
    assert [found.folder for found in info(url).layers][-1] == layer


def test_litter_is_named_and_does_no_harm(url):
    root = open_store(url)
    orphan = re.sub(r"-[0-9a-f]{16}\.", "-0123456789abcdef.", shards(url)[0])
    root.put(orphan, b"left by a writer that died")
    root.put("notes.txt", b"foreign")
    found = {finding.key: finding for finding in verify(url)}
    assert {key: finding.kind for key, finding in found.items()} == {
        orphan: "orphan",
        "notes.txt": "foreign",
    }
    assert not any(finding.harmful for finding in found.values())


@pytest.mark.parametrize("claims", [1, 2])
def test_what_verify_says_mends_the_cache(url, claims):
    """Also where two commits share the shard, because the source has grown in between."""
    grown = [*RECORDS, record(12)]
    fill(url, grown, rejected=["clip-002.mp4"])
    snapshot(url)
    root = open_store(url)
    commits = {key: root.read(key).decode() for key in root.list("latent") if "/commits/" in key}
    key = next(
        key
        for key in shards(url)
        if sum(key.split("/", 2)[2] in text for text in commits.values()) == claims
    )
    good = root.read(key)
    root.put(key, good[:-1] + bytes([good[-1] ^ 1]))
    (finding,) = verify(url)
    named = re.findall(r"latent/\S+\.json", finding.message)
    assert len(named) == claims
    for commit in named:
        root.delete(commit)
    fill(url, grown, rejected=["clip-002.mp4"])
    newest = snapshot(url).number
    assert verify(url, snapshot=newest) == []
    assert len(list(open_cache(url))) == 7
    left = verify(url)
    assert all("snapshot 1 needs it; delete the snapshot" in item.message for item in left)
    assert len(left) == claims - 1, "only a unit of the grown source is made again"


def test_a_place_without_a_cache_is_an_error(tmp_path):
    with pytest.raises(CacheError, match="holds no latent cache"):
        verify(str(tmp_path))


def test_info_counts_what_is_there(url):
    found = info(url)
    latent, text = found.layers
    assert (latent.samples, latent.rejects, latent.shards) == (6, {"corrupt": 1}, len(shards(url)))
    assert latent.size_bytes == sum(open_store(url).stat(key).size_bytes for key in shards(url))
    assert text.samples == 4, "three captions and the empty one"
    assert [header.clips for header in found.snapshots] == [6]
    assert len(found.sources) == 1
