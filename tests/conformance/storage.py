"""What every storage backend must do. To check one, inherit and say where it may write:

class TestMyBackend(StoreConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return f"mine://{tmp_path}"
"""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from video_platform.errors import StorageError
from video_platform.storage import MissingKeyError, Store, open_store

OUTSIDE = ["../a", "a/../../b", "/etc/passwd", "..", "a/..", "a\0b", "a\nb", "a::b", "", ".", "/"]


class StoreConformance:
    """Inherited by the tests of each backend, which give the fixture `url`."""

    @pytest.fixture
    def store(self, url) -> Store:
        return open_store(url)

    def test_what_was_put_is_read(self, store):
        store.put("a/b.bin", b"0123456789")
        assert store.read("a/b.bin") == b"0123456789"
        assert store.read("a/b.bin", start=3) == b"3456789"
        assert store.read("a/b.bin", start=3, end=5) == b"34"
        assert store.read("a/b.bin", end=2) == b"01"

    def test_reading_past_the_end_gives_what_there_is(self, store):
        store.put("a", b"0123")
        store.put("empty", b"")
        assert store.read("a", start=2, end=100) == b"23"
        assert store.read("a", start=100) == b""
        assert store.read("a", start=2, end=2) == b""
        assert store.read("a", start=3, end=2) == b""
        assert store.read("empty") == b""
        with pytest.raises(StorageError, match="count from 0"):
            store.read("a", start=-1)

    def test_put_replaces(self, store):
        store.put("a", b"old and longer")
        store.put("a", b"new")
        assert store.read("a") == b"new"
        assert store.stat("a").size_bytes == 3

    def test_only_the_first_put_if_absent_counts(self, store):
        assert store.put_if_absent("a/b", b"first") is True
        assert store.put_if_absent("a/b", b"second") is False
        assert store.read("a/b") == b"first"

    def test_a_key_can_be_created_again_after_it_was_deleted(self, store):
        store.put_if_absent("a", b"1")
        store.delete("a")
        assert not store.exists("a")
        assert store.put_if_absent("a", b"2")

    def test_of_many_threads_exactly_one_creates_the_key(self, store):
        for number in range(5):
            start = threading.Barrier(8)

            def offer(name, key=f"race/{number}", start=start):
                start.wait()
                return store.put_if_absent(key, name), name

            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(offer, [bytes([i]) * 5000 for i in range(8)]))
            assert [name for won, name in answers if won] == [store.read(f"race/{number}")]

    def test_a_local_file_is_put_whole_and_once(self, store, tmp_path):
        path = tmp_path / "shard"
        path.write_bytes(bytes(range(256)) * 300_000)  # 77 MB: more than one part on S3
        assert store.put_file_if_absent("shard", path)
        assert store.stat("shard").size_bytes == path.stat().st_size
        assert store.read("shard", start=64 << 20) == path.read_bytes()[64 << 20 :]
        path.write_bytes(b"other")
        assert not store.put_file_if_absent("shard", path)
        assert store.stat("shard").size_bytes == 256 * 300_000
        with pytest.raises(StorageError, match="no such file"):
            store.put_file_if_absent("b", tmp_path / "none")

    def test_a_listing_is_sorted_deep_and_never_stale(self, store):
        assert store.list() == []
        for key in ("b/2", "a/1", "b/c/3", "bb/4", "top"):
            store.put(key, b"x")
            assert key in store.list()
        assert store.list() == ["a/1", "b/2", "b/c/3", "bb/4", "top"]
        assert store.list("b") == store.list("b/") == ["b/2", "b/c/3"]
        assert store.list("none") == []
        assert store.list("top") == []
        store.delete("b/2")
        assert store.list("b") == ["b/c/3"]
        open_store(store.url).put("b/5", b"")
        assert store.list("b") == ["b/5", "b/c/3"]

    def test_a_scan_knows_what_stat_knows(self, store):
        store.put("a/b", b"12345")
        assert store.scan() == {"a/b": store.stat("a/b")}
        assert store.stat("a/b").modified_s > 1.7e9

    def test_identity_changes_with_the_content(self, store):
        store.put("a", b"one")
        first = store.stat("a").identity
        assert store.stat("a").identity == first
        store.put("a", b"two")
        assert store.stat("a").identity != first

    def test_what_is_missing_is_named(self, store):
        for call in (store.read, store.stat):
            with pytest.raises(MissingKeyError, match=r"no 'a/none'") as caught:
                call("a/none")
            assert store.url in str(caught.value)
        assert not store.exists("a/none")
        store.delete("a/none")

    def test_a_folder_is_no_content(self, store):
        store.put("a/b", b"1")
        assert not store.exists("a")
        assert not store.exists("a/b/c")
        with pytest.raises(StorageError):
            store.read("a")

    def test_a_child_is_the_same_place_deeper(self, store):
        child = store.child("a").child("b/")
        child.put("c", b"1")
        assert store.list() == ["a/b/c"]
        assert child.list() == ["c"]
        assert open_store(child.url).read("c") == b"1"

    def test_keys_have_one_form(self, store):
        store.put("a//./b", b"1")
        assert store.list() == ["a/b"]
        assert store.read("./a/b/") == b"1"

    @pytest.mark.parametrize("key", ["ü ñ/日本.mp4", "a b+c%20&=?#*[1]", "-x-", "~", "a\\b", "..."])
    def test_odd_names_are_only_names(self, store, key):
        store.put(key, b"1")
        assert store.list() == [key]
        assert store.read(key) == b"1"
        assert store.put_if_absent(key, b"2") is False
        store.delete(key)
        assert store.list() == []

    @pytest.mark.parametrize("key", OUTSIDE)
    def test_no_key_leads_out(self, store, key):
        for call in (
            store.read,
            store.stat,
            store.exists,
            store.delete,
            store.child,
            lambda key: store.put(key, b""),
            lambda key: store.put_if_absent(key, b""),
        ):
            with pytest.raises(StorageError, match="is refused"):
                call(key)

    def test_a_store_survives_being_sent_elsewhere(self, store):
        store.put("a", b"1")
        copy = pickle.loads(pickle.dumps(store))
        assert copy == store
        assert copy.read("a") == b"1"

    def test_the_probe_passes_and_leaves_nothing(self, store):
        store.probe()
        assert store.list() == []

    def test_the_probe_finds_a_store_where_two_can_win(self, store, monkeypatch):
        def careless(backend, key, source):
            backend.put(key, source)
            return True

        monkeypatch.setattr(type(store.backend), "put_if_absent", careless)
        with pytest.raises(StorageError, match="let 9 of 9 writers create the same key"):
            store.probe()
        assert store.list() == []

    def test_the_clock_is_that_of_what_is_written(self, store):
        before_s = store.clock()
        store.put("a", b"1")
        assert before_s <= store.stat("a").modified_s <= store.clock()
        assert store.list() == ["a"]

    def test_nothing_is_left_half_written(self, store):
        store.put("a", b"1")
        store.put_if_absent("b", b"1")
        assert store.unfinished() == {}
