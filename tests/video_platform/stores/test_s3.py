"""Stores in S3: other processes, broken uploads, faults on the line, and wrong settings."""

import errno
import multiprocessing
import os
import socket
import time

import pytest
from fsspec.asyn import sync_wrapper

from tests.conformance.storage import StoreConformance
from tests.faults.proxy import FaultyS3
from video_platform.errors import StorageError
from video_platform.storage import Store, open_store


class TestS3(StoreConformance):
    @pytest.fixture
    def url(self, s3_url):
        return s3_url


def test_a_long_listing_is_whole(s3_url, monkeypatch):
    from s3fs import S3FileSystem

    call, pages = S3FileSystem._call_s3, []

    async def short_pages(self, method, *args, **kwargs):
        if method == "list_objects_v2":
            kwargs["MaxKeys"] = 3
            pages.append(kwargs.get("ContinuationToken"))
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", short_pages)
    monkeypatch.setattr(S3FileSystem, "call_s3", sync_wrapper(short_pages))
    store = open_store(s3_url)
    for number in range(10):
        store.put(f"many/{number}", b"")
    assert store.list("many") == [f"many/{number}" for number in range(10)]
    assert len(set(pages)) == 4


def read_in_child(store, key, answer):
    answer.put(store.read(key))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_used_store_works_in_a_child_process(s3_url, method):
    store = open_store(s3_url)
    store.put("a", b"1")
    context = multiprocessing.get_context(method)
    answer = context.Queue()
    child = context.Process(target=read_in_child, args=(store, "a", answer))
    child.start()
    assert answer.get(timeout=60) == b"1"
    child.join()


def test_an_upload_that_breaks_off_shows_nothing(s3_url, tmp_path, monkeypatch):
    from s3fs import S3FileSystem

    call = S3FileSystem._call_s3

    async def broken(self, method, *args, **kwargs):
        if method == "upload_part" and kwargs["PartNumber"] == 2:
            raise OSError(errno.EIO, "the line is dead")
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", broken)
    path = tmp_path / "shard"
    path.write_bytes(bytes(70 << 20))
    store = open_store(s3_url)
    with pytest.raises(StorageError, match="the line is dead"):
        store.put_file_if_absent("shard", path)
    assert store.list() == []


def test_a_bucket_that_is_not_there_is_named(s3):
    store = open_store("s3://no-such-bucket/a")
    for call in (store.list, store.probe, lambda: store.read("a")):
        with pytest.raises(StorageError, match="there is no bucket 'no-such-bucket' at http"):
            call()


def test_an_endpoint_that_does_not_answer_is_named(s3, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(StorageError, match=r"s3://bucket/a.*127.0.0.1.*AWS_ENDPOINT_URL"):
            open_store("s3://bucket/a").probe()


def test_missing_credentials_are_named(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match=r"no credentials .* set AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket/a").list()


def test_a_wrong_number_of_attempts_is_named(s3, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "many")
    with pytest.raises(StorageError, match="AWS_MAX_ATTEMPTS is 'many'"):
        open_store("s3://bucket/a").list()


@pytest.fixture(scope="module")
def proxy(s3_server):
    """Give a proxy before the S3 server that fails as it is told."""
    with FaultyS3(s3_server) as proxy:
        yield proxy


@pytest.fixture
def faulty(proxy, s3_url, monkeypatch):
    """Give an S3 store behind the proxy, and the proxy."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    store = open_store(s3_url)
    proxy.faults.clear()
    store.put("warm", b"0123456789")
    proxy.seen.clear()
    return store, proxy


@pytest.mark.parametrize("fault", ["409", "503", "500", "lost", "reset", "slow"])
def test_a_conditional_put_outlasts_a_fault_and_still_knows_that_it_won(faulty, fault):
    store, proxy = faulty
    proxy.faults = [fault]
    assert store.put_if_absent("a", b"1") is True
    assert proxy.seen[0] == ("PUT", fault)
    assert store.put_if_absent("a", b"2") is False
    assert store.read("a") == b"1"


def test_a_writer_whose_answers_are_lost_and_refused_still_knows_that_it_won(faulty):
    store, proxy = faulty
    proxy.faults = ["lost", "409", "503", "reset"]
    assert store.put_if_absent("a", b"1") is True
    assert len(proxy.seen) == 6, "four faults, a refusal, and a look at whose it is"


def test_the_loser_of_a_race_is_not_told_that_it_won_by_a_lost_answer(faulty):
    store, proxy = faulty
    store.put_if_absent("a", b"same")
    proxy.faults = ["lost"]
    assert store.put_if_absent("a", b"same") is False, "not even with the same content"


@pytest.mark.parametrize("fault", ["short", "503", "lost", "reset"])
def test_a_read_outlasts_a_fault(faulty, fault):
    store, proxy = faulty
    proxy.faults = [fault]
    assert store.read("warm") == b"0123456789"
    proxy.faults = [fault]
    assert store.read("warm", start=1, end=9) == b"12345678"
    assert len(proxy.seen) == 4


@pytest.mark.parametrize("fault", ["short", "500", "lost", "reset"])
def test_a_listing_a_stat_and_a_delete_outlast_a_fault(faulty, fault):
    store, proxy = faulty
    for call, expected in (
        (store.list, ["warm"]),
        (lambda: store.stat("warm").size_bytes, 10),
        (lambda: store.delete("warm"), None),
    ):
        proxy.faults = [fault]
        assert call() == expected
    assert not store.exists("warm")


@pytest.mark.parametrize("write", [Store.put_file_if_absent, Store.put])
@pytest.mark.parametrize(
    "faults",
    [["lost"], ["ok", "lost"], ["ok", "ok", "503"], ["ok", "ok", "ok", "ok", "lost"]],
    ids=["begun", "a part", "a part refused", "the last word"],
)
def test_an_upload_in_parts_outlasts_a_fault(faulty, tmp_path, monkeypatch, faults, write):
    monkeypatch.setattr("video_platform.stores.s3.PART_BYTES", 5 << 20)
    store, proxy = faulty
    path = tmp_path / "shard"
    path.write_bytes(os.urandom(12 << 20))
    data = path if write is Store.put_file_if_absent else path.read_bytes()
    proxy.faults = list(faults)
    assert write(store, "shard", data) in (True, None)
    assert "POST" in {method for method, _ in proxy.seen}, "it was not sent in parts"
    assert store.read("shard") == path.read_bytes()


def test_a_line_that_stays_bad_is_an_error_and_shows_nothing(faulty, monkeypatch):
    store, proxy = faulty
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    proxy.faults = ["reset"] * 30
    for call in (lambda: store.put_if_absent("a", b"1"), lambda: store.read("warm"), store.list):
        with pytest.raises(StorageError, match="AWS_MAX_ATTEMPTS says how often"):
            call()
    proxy.faults = ["short"] * 30
    with pytest.raises(StorageError, match="the answer broke off"):
        store.read("warm")
    with pytest.raises(StorageError, match="AWS_MAX_ATTEMPTS says how often"):
        store.list()
    proxy.faults = []
    assert store.list() == ["warm"]


def test_a_server_that_never_answers_costs_no_more_than_our_patience(faulty, monkeypatch):
    monkeypatch.setattr("video_platform.stores.s3_requests.PATIENCE_S", 0.5)
    store, proxy = faulty
    for call in (lambda: store.put_if_absent("a", b"1"), lambda: store.read("warm"), store.list):
        proxy.faults = ["stall"] * 5
        start = time.monotonic()
        with pytest.raises(StorageError, match=r"no success within 0\.5 s"):
            call()
        assert time.monotonic() - start < 5


def test_a_server_without_ranges_is_read_right(faulty, monkeypatch):
    from s3fs import S3FileSystem

    call = S3FileSystem._call_s3

    async def without_ranges(self, method, *args, **kwargs):
        kwargs.pop("Range", None)
        return await call(self, method, *args, **kwargs)

    store, _ = faulty
    monkeypatch.setattr(S3FileSystem, "_call_s3", without_ranges)
    assert store.read("warm", start=2, end=4) == b"23"
    assert store.read("warm", start=7) == b"789"


def test_an_upload_that_was_never_finished_is_found_and_discarded(s3_url):
    from s3fs import S3FileSystem

    store = open_store(s3_url)
    bucket, prefix = store.backend.bucket, store.backend.prefix
    client = S3FileSystem(skip_instance_cache=True)
    for key in (f"{prefix}/data/shard", f"{prefix}-other/shard"):
        client.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
    assert store.list() == []
    ((name, begun_s),) = store.unfinished().items()
    assert 1e9 < begun_s < store.clock() + 1
    store.discard(name)
    store.discard(name)
    assert store.unfinished() == {}
