"""Stores: which URLs open, and what a key may be. What each kind must do is in `stores/`."""

import pytest

from video_platform.errors import StorageError
from video_platform.storage import join_key, open_store
from video_platform.stores.local import LocalBackend


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
        "/tmp/a::b",
        "file:///tmp/a.zip::b",
        "s3://bucket/a.zip::memory://b",
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


def test_the_probe_catches_a_store_that_looks_first_and_then_writes(tmp_path, monkeypatch):
    """As fsspec's exclusive mode does on a disk."""
    from fsspec.implementations.local import LocalFileSystem

    disk = LocalFileSystem(auto_mkdir=True)

    def look_and_write(backend, key, source):
        try:
            disk.pipe_file(f"{backend.root}/{key}", source, mode="create")
        except FileExistsError:
            return False
        return True

    monkeypatch.setattr(LocalBackend, "put_if_absent", look_and_write)
    with pytest.raises(StorageError, match=r"writers create the same key|no '\.probe"):
        for _ in range(5):
            open_store(tmp_path).probe()
    assert open_store(tmp_path).list() == []
