"""Stores in S3: other processes, broken uploads, faults on the line, and wrong settings."""

import errno
import multiprocessing
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fsspec.asyn import sync_wrapper

from tests.conformance.storage import StoreConformance
from video_platform.errors import StorageError
from video_platform.storage import open_store


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
