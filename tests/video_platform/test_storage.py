"""Stores: the promises on a disk and on S3, what may be opened, and what is said when it fails."""

import errno
import multiprocessing
import os
import socket
import threading
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.conformance.storage import StoreConformance

from video_platform.errors import StorageError
from video_platform.storage import Store, join_key, open_store


class TestLocal(StoreConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return str(tmp_path / "store")


class TestS3(StoreConformance):
    @pytest.fixture
    def url(self, s3_url):
        return s3_url


# --- what may be opened -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "memory://a",
        "http://169.254.169.254/latest",
        "reference://a",
        "zip://a.zip",
        "s3a://bucket",
        "S3://bucket",
        "filecache::s3://bucket/a",
        "zip://*::file:///tmp/a.zip",
        "/tmp/a::s3://bucket",
        "data:,abc",
        "s3:bucket/key",
        "git://repo",
    ],
)
def test_only_files_and_s3_open(url):
    with pytest.raises(StorageError, match=r"cannot open .*; allowed: a path, file:///path, s3://"):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "empty"),
        ("file://", "empty"),
        ("s3://", "empty"),
        ("/tmp/a\0b", "control characters"),
        ("file://host/a", "absolute path"),
        ("s3:///key", "bucket's name"),
        ("s3://a", "bucket's name"),
        ("s3://BUCKET/a", "bucket's name"),
        ("s3://bucket/../other", "leads out"),
    ],
)
def test_a_malformed_url_is_refused(url, words):
    with pytest.raises(StorageError, match=words):
        open_store(url)


def test_a_password_in_a_url_is_refused_and_not_repeated():
    with pytest.raises(StorageError, match=r"\*\*\*@bucket.*environment") as caught:
        open_store("s3://KEY:hunter2@bucket/a")
    assert "hunter2" not in str(caught.value)


def test_a_path_in_any_form_is_the_same_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    urls = ("a", "./a", "~/a", f"file://{tmp_path}/a", f"{tmp_path}/b/../a/", tmp_path / "a")
    assert {open_store(url).url for url in urls} == {str(tmp_path / "a")}


def test_the_url_of_a_bucket_has_one_form():
    assert open_store("s3://bucket").url == open_store("s3://bucket/").url == "s3://bucket"
    assert open_store("s3://bucket//a//b/").url == "s3://bucket/a/b"


def test_keys_join():
    assert join_key("a", "b/c", "./d") == "a/b/c/d"
    with pytest.raises(StorageError, match="leads out"):
        join_key("a", "/b")


# --- a local disk -----------------------------------------------------------------------------


def test_a_link_that_leads_out_is_refused(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_bytes(b"secret")
    store = open_store(tmp_path / "store")
    store.put("inside", b"1")
    root = Path(store.url)
    (root / "folder").symlink_to(tmp_path / "secret")
    (root / "within").symlink_to(root / "inside")
    assert store.read("within") == b"1"
    assert store.list() == ["inside", "within"]
    (root / "file").symlink_to(tmp_path / "secret" / "key")
    for call in (
        lambda: store.read("folder/key"),
        lambda: store.read("file"),
        lambda: store.put("folder/new", b""),
        lambda: store.put_if_absent("folder/new", b""),
        lambda: store.delete("folder/key"),
        lambda: store.child("folder"),
        lambda: store.local_path("file"),
        store.list,
    ):
        with pytest.raises(StorageError, match="link that leads out"):
            call()
    assert os.listdir(tmp_path / "secret") == ["key"]


def test_a_sibling_with_the_same_beginning_is_outside(tmp_path):
    (tmp_path / "store-2").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "store-2")
    with pytest.raises(StorageError, match="link that leads out"):
        open_store(tmp_path / "store").put("link/a", b"")


def test_pipes_and_dead_links_are_not_content(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dead").symlink_to(tmp_path / "none")
    store = open_store(tmp_path)
    assert store.list() == []
    assert not store.exists("pipe")


def race(args):
    url, key, number = args
    return open_store(url).put_if_absent(key, f"{number}".encode() * 3000)


def test_of_many_processes_exactly_one_creates_the_file(tmp_path):
    store = open_store(tmp_path)
    context = multiprocessing.get_context("spawn")
    jobs = [(store.url, f"race/{key}", number) for key in range(100) for number in range(4)]
    with ProcessPoolExecutor(4, mp_context=context) as processes:
        won = list(processes.map(race, jobs))
    for key in range(100):
        winners = [
            job[2]
            for job, first in zip(jobs, won, strict=True)
            if first and job[1] == f"race/{key}"
        ]
        assert len(winners) == 1
        assert store.read(f"race/{key}") == f"{winners[0]}".encode() * 3000
    assert len(store.list()) == 100
    assert not list(tmp_path.rglob("*.partial"))


def test_readers_never_see_a_part_of_a_write(tmp_path):
    store = open_store(tmp_path)
    store.put("a", b"0" * 1_000_000)
    done = threading.Event()

    def write():
        for number in range(60):
            store.put("a", f"{number % 10}".encode() * 1_000_000)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        data = store.read("a")
        assert len(data) == 1_000_000
        assert len(set(data)) == 1
    writer.join()


@pytest.mark.parametrize("write", [Store.put, Store.put_if_absent])
def test_a_full_disk_leaves_the_old_content_and_says_so(tmp_path, monkeypatch, write):
    store = open_store(tmp_path)
    store.put("old", b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full: free some space") as caught:
        write(store, "old", b"new")
    assert str(tmp_path) in str(caught.value)
    assert store.read("old") == b"old"
    assert os.listdir(tmp_path) == ["old"]


def test_a_disk_without_hard_links_is_refused(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(StorageError, match="no hard links .* choose a folder on another disk"):
        open_store(tmp_path).put_if_absent("a", b"")
    assert os.listdir(tmp_path) == []


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    store = open_store(tmp_path)
    store.put("a", b"")
    with pytest.raises(StorageError, match="cannot use 'a/b'"):
        store.put("a/b", b"")


# --- S3 ---------------------------------------------------------------------------------------


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
    with pytest.raises(StorageError, match="no credentials .* set AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket/a").list()


def test_a_wrong_number_of_attempts_is_named(s3, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "many")
    with pytest.raises(StorageError, match="AWS_MAX_ATTEMPTS is 'many'"):
        open_store("s3://bucket/a").list()


class FaultyS3:
    """A proxy before the S3 server that fails requests by a schedule.

    `faults` holds one word a request: "ok"; a status such as "503"; "lost" (done, but the answer
    is not sent); "short" (the body ends early). After the last one everything is "ok".
    """

    def __init__(self, target):
        proxy = self
        proxy.faults, proxy.seen = [], []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self):
                import http.client

                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = proxy.faults.pop(0) if proxy.faults else "ok"
                proxy.seen.append((self.command, fault))
                self.close_connection = True
                if fault.isdecimal():
                    code = {"409": "ConditionalRequestConflict", "503": "SlowDown"}.get(fault, "X")
                    text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
                    self.answer(int(fault), [("Content-Length", str(len(text)))], text)
                    return
                connection = http.client.HTTPConnection(target.removeprefix("http://"))
                connection.request(self.command, self.path, body, dict(self.headers))
                reply = connection.getresponse()
                data = reply.read()
                connection.close()
                if fault == "lost":
                    return
                self.answer(
                    reply.status, reply.getheaders(), data[: 5 if fault == "short" else None]
                )

            def answer(self, status, headers, data):
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def faulty(s3_url, monkeypatch):
    """Give an S3 store behind a proxy, and the proxy."""
    proxy = FaultyS3(os.environ["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    store = open_store(s3_url)
    store.put("warm", b"0123456789")
    proxy.seen.clear()
    yield store, proxy
    proxy.server.shutdown()
    proxy.server.server_close()


@pytest.mark.parametrize("fault", ["409", "503", "500", "lost"])
def test_a_conditional_put_outlasts_a_fault_and_still_knows_that_it_won(faulty, fault):
    store, proxy = faulty
    proxy.faults = [fault]
    assert store.put_if_absent("a", b"1") is True
    assert proxy.seen[0] == ("PUT", fault)
    proxy.faults = [fault]
    assert store.put_if_absent("a", b"2") is False
    assert store.read("a") == b"1"


@pytest.mark.parametrize("fault", ["short", "503", "lost"])
def test_a_read_outlasts_a_fault(faulty, fault):
    store, proxy = faulty
    proxy.faults = [fault]
    assert store.read("warm") == b"0123456789"
    proxy.faults = [fault]
    assert store.read("warm", start=1, end=9) == b"12345678"
    assert len(proxy.seen) == 4
