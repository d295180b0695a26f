"""Stores on a local disk: links, races between processes, full disks."""

import errno
import multiprocessing
import os
import resource
import subprocess
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.conformance.storage import StoreConformance
from video_platform.errors import StorageError
from video_platform.storage import Store, open_store


class TestLocal(StoreConformance):
    @pytest.fixture
    def url(self, tmp_path):
        return str(tmp_path / "store")


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


@pytest.fixture
def small_disk(tmp_path):
    """Give a disk of a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("write", [Store.put_file_if_absent, Store.put])
def test_a_disk_that_fills_up_shows_nothing_of_what_did_not_fit(small_disk, tmp_path, write):
    store = open_store(small_disk)
    store.put("old", b"old")
    (tmp_path / "shard").write_bytes(bytes(3 << 20))
    source = tmp_path / "shard" if write is Store.put_file_if_absent else bytes(3 << 20)
    with pytest.raises(StorageError, match="the disk is full: free some space"):
        write(store, "shard", source)
    assert os.listdir(small_disk) == ["old"]
    store.put("new", bytes(500_000))
    assert store.list() == ["new", "old"]


def test_a_file_that_is_too_long_for_the_process_is_refused(tmp_path):
    store = open_store(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorageError, match="see `ulimit -f`"):
            store.put_if_absent("shard", bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


def test_what_a_writer_left_half_written_is_found_and_discarded(tmp_path):
    store = open_store(tmp_path)
    store.put("a/b", b"1")
    (tmp_path / "a" / f".{'0' * 32}.partial").write_bytes(b"half")
    assert store.list() == ["a/b"]
    ((name, begun_s),) = store.unfinished().items()
    assert abs(begun_s - store.clock()) < 60
    store.discard(name)
    store.discard(name)
    assert store.unfinished() == {}
    assert store.list() == ["a/b"]


def test_a_disk_without_hard_links_is_refused(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(StorageError, match=r"no hard links .* choose a folder on another disk"):
        open_store(tmp_path).put_if_absent("a", b"")
    assert os.listdir(tmp_path) == []


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    store = open_store(tmp_path)
    store.put("a", b"")
    with pytest.raises(StorageError, match="cannot use 'a/b'"):
        store.put("a/b", b"")
