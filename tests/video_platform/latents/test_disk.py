"""The local disk cache: shared by processes that are killed, on disks that damage and fill up."""

import errno
import logging
import multiprocessing
import os
import pickle
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.video_platform.latents.toy import encode, fill, frames_of, record
from video_platform.errors import CorruptCacheError
from video_platform.latents import open_cache, snapshot
from video_platform.latents.disk import ABANDONED_S, FRESH_S, PARTIAL, DiskCache
from video_platform.storage import Store, open_store

RECORDS = [record(number) for number in range(12)]
PIECE = 1000


def content(number):
    return bytes([number % 251]) * PIECE


def read(cache, number, fetch=None):
    return cache.read(f"piece-{number}", PIECE, fetch or (lambda: content(number)))


def gone():
    raise AssertionError("fetched though it is there")


def pieces(cache):
    return [Path(path) for path, _ in cache._files()]


def age(paths, seconds):
    for path in paths:
        os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def cache(tmp_path):
    return DiskCache(str(tmp_path / "disk"), limit_bytes=100 * PIECE)


def test_a_piece_is_fetched_once_and_belongs_to_its_reader(cache):
    read(cache, 1)[:] = bytes(PIECE)
    assert read(cache, 1, gone) == content(1)
    assert pickle.loads(pickle.dumps(cache)).read("piece-1", PIECE, gone) == content(1)


def test_a_whole_file_is_mapped_once_it_is_there(cache):
    assert bytes(cache.map("file", PIECE, lambda: content(2))) == content(2)
    assert bytes(cache.map("file", PIECE, gone)) == content(2)


@pytest.mark.parametrize("size", [0, 10, PIECE + 1])
def test_a_torn_piece_is_fetched_again(cache, size):
    read(cache, 1)
    pieces(cache)[0].write_bytes(bytes(size))
    assert read(cache, 1) == content(1)
    assert read(cache, 1, gone) == content(1)


def test_an_answer_that_is_too_short_is_given_and_not_kept(cache):
    assert read(cache, 1, lambda: b"short") == b"short"
    assert bytes(cache.map("file", PIECE, lambda: b"short")) == b"short"
    assert pieces(cache) == []


def test_a_failed_fetch_leaves_nothing(cache):
    with pytest.raises(AssertionError):
        read(cache, 1, gone)
    with pytest.raises(AssertionError):
        cache.map("file", PIECE, gone)
    assert pieces(cache) == []


def test_what_was_used_longest_ago_goes_first(cache):
    for number in range(90):
        read(cache, number)
    age(pieces(cache), FRESH_S + 100)
    for number in range(30):
        read(cache, number, gone)  # used again
    for number in range(100, 130):
        read(cache, number)
    cache.evict()
    assert cache.size_bytes() <= 100 * PIECE
    for number in (*range(30), *range(100, 130)):
        read(cache, number, gone)


def test_a_set_twice_as_large_as_the_disk_is_still_half_read_from_it(cache):
    fetched = []
    draw = random.Random(0)
    for _ in range(6):
        fetched.append(0)
        for number in draw.sample(range(200), 200):

            def fetch(number=number):
                fetched[-1] += 1
                return content(number)

            read(cache, number, fetch)
    assert fetched[0] == 200
    assert sum(fetched[2:]) / 4 < 140  # where the oldest piece always goes it is 170
    assert cache.size_bytes() <= 104 * PIECE


def test_a_new_set_takes_the_place_of_one_that_nobody_uses_any_more(cache):
    for number in range(100):
        read(cache, number)
    age(pieces(cache), FRESH_S + 100)
    other = DiskCache(cache.folder, cache.limit_bytes)
    for number in range(200, 290):
        read(other, number)
    kept = [number for number in range(200, 290) if other._path(f"piece-{number}").exists()]
    assert len(kept) == 90


def test_processes_that_are_killed_before_they_have_written_much_do_not_fill_the_disk(cache):
    for start in range(0, 300, 3):  # each writes less than the 1/32 that it is let
        young = DiskCache(cache.folder, cache.limit_bytes)
        for number in range(start, start + 3):
            read(young, number)
        age(pieces(cache), FRESH_S + 100)
    assert cache.size_bytes() <= 104 * PIECE


def test_what_a_killed_process_was_writing_is_removed_when_it_is_old(cache):
    read(cache, 1)
    old, new = (Path(cache.folder, "ab", f"{name}{PARTIAL}") for name in ("old", "new"))
    for path in (old, new):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(10))
    age([old], ABANDONED_S + 10)
    cache.evict()
    assert not old.exists()
    assert new.exists()
    read(cache, 1, gone)


def test_a_full_disk_costs_speed_and_says_so_once(cache, monkeypatch, caplog):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.WARNING):
        assert [read(cache, number) for number in range(5)] == [content(n) for n in range(5)]
        assert bytes(cache.map("file", PIECE, lambda: content(7))) == content(7)
    assert [r.message for r in caplog.records] == [
        f"nothing is kept in {cache.folder}: No space left on device"
    ]
    assert pieces(cache) == []


def test_a_piece_that_cannot_be_read_is_fetched(cache):
    read(cache, 1)
    path = pieces(cache)[0]
    path.unlink()
    path.mkdir()  # opening it fails, even for root
    assert read(cache, 1) == content(1)


def test_of_many_threads_one_fetches_a_large_file(cache):
    fetched = []

    def fetch():
        fetched.append(threading.get_ident())
        time.sleep(0.05)
        return content(3)

    with ThreadPoolExecutor(8) as threads:
        maps = list(threads.map(lambda _: bytes(cache.map("file", PIECE, fetch)), range(8)))
    assert maps == [content(3)] * 8
    assert len(fetched) == 1


def test_a_limit_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="limit_bytes = 0"):
        DiskCache(str(tmp_path), limit_bytes=0)


# Behind a cache on S3


@pytest.fixture
def s3_cache(s3_url, tmp_path):
    fill(s3_url, RECORDS)
    snapshot(s3_url)
    return s3_url, DiskCache(str(tmp_path / "disk"), limit_bytes=1 << 20)


@pytest.fixture
def reads(monkeypatch):
    """Give the keys that are read from the store."""
    keys, read_store = [], Store.read

    def counted(store, key, *, start=0, end=None):
        keys.append(key)
        return read_store(store, key, start=start, end=end)

    monkeypatch.setattr(Store, "read", counted)
    return keys


def check(cache):
    for place, made in enumerate(RECORDS):
        sample = cache[place]
        assert sample.id == made.id
        assert torch.equal(sample.mean, encode(frames_of(made)[None])[0][0])


def test_what_was_read_once_is_not_asked_of_the_store_again(s3_cache, reads):
    url, disk = s3_cache
    check(open_cache(url, disk=disk))
    reads.clear()
    check(pickle.loads(pickle.dumps(open_cache(url, disk=disk))))
    assert [key for key in reads if "data/" in key] == []


def test_a_copy_that_the_disk_has_damaged_is_fetched_again(s3_cache):
    url, disk = s3_cache
    check(open_cache(url, disk=disk))
    for path in pieces(disk):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with ThreadPoolExecutor(8) as threads:  # several meet the same damage at once
        cache = open_cache(url, disk=disk)
        list(threads.map(lambda _: check(cache), range(8)))
    check(open_cache(url, disk=disk))


def test_damage_in_the_store_is_an_error_with_a_disk_cache_too(s3_cache):
    url, disk = s3_cache
    cache = open_cache(url)
    key, offset = cache._index[0].mean.key, cache._index[0].mean.offset
    data = bytearray(open_store(url).read(key))
    data[offset] ^= 1
    open_store(url).put(key, bytes(data))
    with pytest.raises(CorruptCacheError, match="do not match their checksum"):
        _ = open_cache(url, disk=disk)[0]


def hammer(url, disk, seed, rounds, stop):
    """Read and map at random until told to stop, or killed; count the rounds."""
    cache, draw = open_cache(url, disk=disk), random.Random(seed)
    expected = [encode(frames_of(made)[None])[0][0] for made in RECORDS]
    small = DiskCache(disk.folder, disk.limit_bytes)
    while not stop.value:
        place = draw.randrange(len(RECORDS))
        assert torch.equal(cache[place].mean, expected[place])
        for number in draw.sample(range(400), 20):
            assert read(small, number) == content(number)
        number = draw.randrange(7)
        whole = small.map(f"whole-{number}", PIECE, lambda n=number: content(n))
        assert bytes(whole) == content(number)
        rounds[seed] += 1


def test_processes_that_share_a_disk_and_are_killed_never_read_a_wrong_byte(s3_cache):
    url, disk = s3_cache
    disk = DiskCache(disk.folder, limit_bytes=100 * PIECE)
    context, draw = multiprocessing.get_context("forkserver"), random.Random(1)
    context.set_forkserver_preload(["torch", "s3fs", "pyarrow"])
    rounds, stop = context.RawArray("i", 32), context.RawValue("b", 0)
    children = {}

    def start(seed):
        arguments = (url, disk, seed, rounds, stop)
        children[seed] = context.Process(target=hammer, args=arguments)
        children[seed].start()

    for seed in range(4):
        start(seed)
    for fresh in range(4, 10):
        victim = draw.choice([*children])
        deadline = time.time() + 60
        while rounds[victim] < 3 and time.time() < deadline:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.1))
        os.kill(children[victim].pid, signal.SIGKILL)
        children.pop(victim).join()
        start(fresh)
    time.sleep(0.5)
    stop.value = 1
    for child in children.values():
        child.join()
    assert [child.exitcode for child in children.values()] == [0] * 4
    assert sum(rounds) > 20
    age([path for path in pieces(disk) if path.name.endswith(PARTIAL)], ABANDONED_S + 10)
    assert disk.size_bytes() < 100 * PIECE * (1 + 5 / 32) + 6 * PIECE
    disk.evict()
    assert not [path for path in pieces(disk) if path.name.endswith(PARTIAL)]
    assert disk.size_bytes() <= 100 * PIECE
    check(open_cache(url, disk=disk))


def test_sizes_are_those_of_the_files(cache):
    draw = np.random.default_rng(0)
    for number in draw.permutation(20).tolist():
        read(cache, number)
    assert cache.size_bytes() == 20 * PIECE
