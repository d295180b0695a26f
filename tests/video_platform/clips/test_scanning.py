"""Scans are made once, kept, and found again by any later run; on Ray as in one process."""

import dataclasses
import os

import numpy as np
import psutil
import pytest

from tests.video_platform.clips.made import record, scan
from tests.video_platform.datasets.test_huggingface import parquet, structs
from tests.video_platform.datasets.test_webdataset import tar
from video_platform.clips.config import ClipsConfig
from video_platform.clips.scanning import BYTES, FILES, Scanner, _parts, scan_source
from video_platform.clips.scans import Refusal, Scanning, Shelf, media_hash
from video_platform.cluster import start
from video_platform.cluster_config import ClusterConfig
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source
from video_platform.errors import CacheError, ClusterError, CorruptCacheError, SourceError
from video_platform.latents.config import CacheConfig
from video_platform.storage import open_store
from video_platform.video.encode import write_mp4
from video_platform.video.limits import MediaLimits

LIMITS = MediaLimits(timeout_s=60)
SCANNING = Scanning.of(ClipsConfig(scan_timeout_s=60), LIMITS)


@pytest.fixture(scope="module")
def ray_running(s3_server):
    with start(ClusterConfig(num_cpus=2)):
        yield


@pytest.fixture
def videos(tmp_path):
    """Three videos of different lengths and one file that is none."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(3):
        draw = np.random.default_rng(number)
        coarse = draw.integers(0, 256, (8 + 4 * number, 4, 4, 3), np.uint8)
        write_mp4(folder / f"{number}.mp4", coarse.repeat(8, 1).repeat(8, 2), fps=8)
    (folder / "garbage.mp4").write_bytes(b"this is no video")
    return folder


def files(folder):
    return open_source(SourceConfig(url=str(folder)))


def pool(**changes):
    return CacheConfig(url="unused", **changes)


def scan_all(url, folder, scanning=SCANNING, **changes):
    told = []
    shelf = scan_source(
        open_store(url),
        files(folder),
        scanning,
        pool=pool(**changes),
        on_progress=lambda done, total: told.append((done, total)),
    )
    return {item.id: found for item, found in shelf.walk(files(folder))}, told


def test_every_video_is_scanned_or_refused_with_a_reason(ray_running, videos, store_url):
    found, told = scan_all(store_url, videos, decoders=2)
    lengths = [found[f"{number}.mp4"].duration_s for number in range(3)]
    assert lengths == [1.0, 1.5, 2.0]
    assert found["garbage.mp4"].reason == "not_video"
    assert (told[0], told[-1]) == ((0, 4), (4, 4))


def test_a_second_run_scans_nothing(ray_running, videos, tmp_path, monkeypatch):
    first, _ = scan_all(str(tmp_path / "cache"), videos)
    monkeypatch.setattr("video_platform.clips.scanning._scanners", None)
    again, told = scan_all(str(tmp_path / "cache"), videos)
    assert (again, told) == (first, [(4, 4)])
    with pytest.raises(TypeError):
        scan_all(str(tmp_path / "other"), videos)


def test_only_what_is_new_is_scanned(ray_running, videos, tmp_path):
    scan_all(str(tmp_path / "cache"), videos)
    write_mp4(videos / "0.mp4", np.zeros((24, 32, 32, 3), np.uint8), fps=8)
    found, told = scan_all(str(tmp_path / "cache"), videos)
    assert told[0] == (3, 4)
    assert found["0.mp4"].duration_s == 3.0


def test_a_video_that_changed_since_it_was_listed_fails_alone(ray_running, videos, tmp_path):
    root = open_store(tmp_path / "cache")
    listed = [
        dataclasses.replace(item, identity="old") if item.id == "1.mp4" else item
        for item in files(videos)
    ]
    with pytest.raises(CacheError, match=r"1\.mp4.*has changed.*run it again"):
        scan_source(root, listed, SCANNING, pool=pool(), on_progress=lambda *told: None)
    _, told = scan_all(root.url, videos)
    assert told[0] == (3, 4), "the others were kept"


def test_the_others_of_a_piece_of_work_are_kept_when_one_fails(videos, tmp_path):
    root = open_store(tmp_path / "cache")
    listed = files(videos)
    broken = [dataclasses.replace(listed[0], identity="old"), *listed[1:]]
    scanner = Scanner(SCANNING)
    with pytest.raises(SourceError, match="has changed"):
        scanner.keep(root, broken)
    scanner.close()
    shelf = Shelf(root, SCANNING)
    shelf.refresh()
    assert shelf.missing(listed) == listed[:1]


def test_work_is_cut_into_pieces_by_count_and_by_bytes():
    small = [record(str(name)) for name in range(10)]
    assert [len(part) for part in _parts(small, 4)] == [4, 4, 2]
    assert [len(part) for part in _parts(small, 0)] == [1] * 10
    assert max(len(part) for part in _parts(small * 100, 500)) == FILES
    large = [dataclasses.replace(item, size_bytes=BYTES // 2) for item in small]
    assert [len(part) for part in _parts(large, 4)] == [2] * 5
    huge = [dataclasses.replace(item, size_bytes=2 * BYTES) for item in small]
    assert [len(part) for part in _parts(huge, 4)] == [1] * 10


def test_a_run_that_is_interrupted_keeps_what_it_found(ray_running, videos, tmp_path):
    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    root = open_store(tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        scan_source(root, files(videos), SCANNING, pool=pool(), on_progress=interrupt)
    found, told = scan_all(root.url, videos)
    assert told[0][0] >= 2
    assert len(found) == 4


def test_a_cluster_without_room_is_an_error(ray_running, videos, tmp_path):
    with pytest.raises(ClusterError, match=r"0 of 1 decoders started.*2 CPUs"):
        scan_all(str(tmp_path), videos, cpus_per_decoder=64.0, start_timeout_s=0.5)


def test_an_actor_that_dies_costs_nothing(ray_running, videos, tmp_path, monkeypatch):
    note = tmp_path / "killed"
    keep = Scanner.keep

    def deadly(self, root, records):
        if not note.exists():
            note.touch()
            os._exit(1)
        return keep(self, root, records)

    monkeypatch.setattr(Scanner, "keep", deadly)
    found, _ = scan_all(str(tmp_path / "cache"), videos)
    assert note.exists()
    assert len(found) == 4


def test_a_scanner_leaves_no_process_behind(videos):
    scanner = Scanner(SCANNING)
    [first, *_] = files(videos)
    assert scanner.look(first).frames == 8
    children = psutil.Process().children()
    scanner.close()
    assert not any(
        "video.child" in " ".join(child.cmdline())
        for child in children
        if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    )


def test_a_video_scans_alike_wherever_it_lies(videos, tmp_path, s3_url):
    data = (videos / "2.mp4").read_bytes()
    stores = {}
    for place in (str(tmp_path / "packed"), s3_url):
        for kind in ("folder", "tar", "parquet"):
            stores[place, kind] = open_store(f"{place}/{kind}")
        stores[place, "folder"].put("2.mp4", data)
        stores[place, "tar"].put("a.tar", tar(("1.mp4", b"other"), ("2.mp4", data)))
        values = structs([{"bytes": b"other", "path": None}, {"bytes": data, "path": None}])
        stores[place, "parquet"].put("a.parquet", parquet({"video": values}))
    scanner = Scanner(SCANNING)
    alone = scanner.look(files(videos)[2])
    for store in stores.values():
        last = open_source(SourceConfig(url=store.url))[-1]
        assert scanner.look(last) == alone
        cut = dataclasses.replace(last, file=last.id, start_s=1.0)  # fetched as a file to cut from
        assert scanner.look(cut) == alone
    scanner.close()


def test_a_file_beyond_a_limit_is_refused_without_being_fetched(videos):
    scanning = Scanning.of(ClipsConfig(), MediaLimits(max_bytes=1))
    scanner = Scanner(scanning)
    scanner._fetcher = None
    assert scanner.look(files(videos)[0]).reason == "too_large"


@pytest.fixture
def shelf(tmp_path):
    return Shelf(open_store(tmp_path), SCANNING)


def test_findings_come_back_as_they_were(shelf):
    records = [record("a"), record("b")]
    refusal = Refusal(reason="corrupt", error="damaged", limits=SCANNING.bounds)
    found = {media_hash(records[0]): scan(5.0, cuts_s=(1.5,)), media_hash(records[1]): refusal}
    shelf.put(found)
    shelf.refresh()
    assert [finding for _, finding in shelf.walk(records)] == list(found.values())
    assert shelf.missing([*records, record("c")]) == [record("c")]


def test_a_refusal_counts_only_under_its_limits_and_a_scan_always(shelf, tmp_path):
    records = [record("a"), record("b")]
    refusal = Refusal(reason="too_long", error="", limits=SCANNING.bounds)
    shelf.put({media_hash(records[0]): scan(5.0), media_hash(records[1]): refusal})
    for limits, missing in (
        (dataclasses.replace(LIMITS, threads=2), []),
        (dataclasses.replace(LIMITS, max_duration_s=9.0), records[1:]),
    ):
        other = Shelf(open_store(tmp_path), Scanning.of(ClipsConfig(scan_timeout_s=60), limits))
        other.refresh()
        assert other.missing(records) == missing


def test_another_way_of_looking_finds_nothing_of_it(shelf, tmp_path):
    shelf.put({media_hash(record("a")): scan(5.0)})
    config = ClipsConfig(cut="scenes", scan_timeout_s=60)
    other = Shelf(open_store(tmp_path), Scanning.of(config, LIMITS))
    other.refresh()
    assert other.missing([record("a")]) == [record("a")]


def test_the_same_findings_are_kept_once(shelf, tmp_path):
    for _ in range(2):
        shelf.put({media_hash(record("a")): scan(5.0)})
    assert len(open_store(tmp_path).list()) == 1


def test_a_caption_or_a_name_changes_no_scan_and_content_does():
    one = record("a")
    assert media_hash(dataclasses.replace(one, id="b", caption="c")) == media_hash(one)
    for change in ({"identity": "x"}, {"key": "x"}, {"row": 1}, {"offset": 512}):
        assert media_hash(dataclasses.replace(one, **change)) != media_hash(one)


def test_damaged_findings_are_named(shelf, tmp_path):
    shelf.put({media_hash(record("a")): scan(5.0)})
    root = open_store(tmp_path)
    [key] = root.list()
    root.put(key, root.read(key).replace(b"h264", b"h265"))
    with pytest.raises(CorruptCacheError, match=f"{key} is damaged.*delete it"):
        shelf.refresh()


def test_a_video_that_is_gone_is_no_refusal(videos):
    listed = files(videos)
    (videos / "0.mp4").unlink()
    with pytest.raises(SourceError, match="is gone"):
        Scanner(SCANNING).look(listed[0])
