"""Tar shards: reading without extracting, few requests, and hostile archives."""

import gzip
import io
import json
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.datasets import SourceConformance
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.source import open_source, read_media
from video_platform.errors import SourceError
from video_platform.storage import Store, open_store


def tar(*members, format=tarfile.PAX_FORMAT):
    """Pack (name, content) pairs; a TarInfo in place of the name says what the header holds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def open_tar(tmp_path, data):
    (tmp_path / "a.tar").write_bytes(data)
    return open_source(SourceConfig(url=str(tmp_path)))


class TestShards(SourceConformance):
    format = "webdataset"

    def write(self, url, clips):
        store = open_store(url)
        for clip in clips:  # a shard each, since records are sorted by shard first
            members = [(f"{clip.name}.mp4", clip.data)]
            if clip.caption is not None:
                members.append((f"{clip.name}.txt", clip.caption.encode()))
            if clip.program is not None:
                members.append(
                    (f"{clip.name}.json", json.dumps({"program": clip.program}).encode())
                )
            store.put(f"shards/{clip.name}.tar", tar(*members))
        return url


class TestOneShard(SourceConformance):
    format = "webdataset"

    def write(self, url, clips):
        members = []
        for clip in clips:
            about = {"caption": clip.caption, "program": clip.program}
            members += [
                (f"./{clip.name}.json", json.dumps(about).encode()),
                (f"./{clip.name}.mp4", clip.data),
            ]
        open_store(url).put("all.tar", tar(*members, format=tarfile.GNU_FORMAT))
        return f"{url}/all.tar"


def test_an_id_is_the_shard_and_the_name_in_it(tmp_path):
    records = open_tar(tmp_path, tar(("x/1.mp4", b"1"), ("x/1.txt", b"one"), ("1.MP4", b"2")))
    assert [(record.id, record.caption) for record in records] == [
        ("a.tar/1.MP4", None),
        ("a.tar/x/1.mp4", "one"),
    ]
    assert [read_media(record) for record in records] == [b"2", b"1"]


def test_long_and_foreign_names_are_read(tmp_path):
    name = "ü" * 120 + "/" + "n" * 120
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        [record] = open_tar(tmp_path, tar((f"{name}.mp4", b"12"), format=format))
        assert record.id == f"a.tar/{name}.mp4"
        assert read_media(record) == b"12"


def test_the_text_beats_the_json_caption(tmp_path):
    data = tar(("1.mp4", b""), ("1.txt", b"text"), ("1.json", b'{"caption": "json", "x": 1}'))
    assert open_tar(tmp_path, data)[0].caption == "text"


def test_the_field_with_the_caption_can_be_chosen(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar(("1.mp4", b""), ("1.json", b'{"text": "t", "long": "l"}')))
    for column, caption in ((None, "t"), ("long", "l"), ("none", None)):
        [record] = open_source(SourceConfig(url=str(tmp_path), caption_column=column))
        assert record.caption == caption


def test_listing_a_shard_reads_headers_not_videos(tmp_path, monkeypatch):
    members = []
    for number in range(20):
        members += [(f"{number:03}.mp4", bytes(1_000_000)), (f"{number:03}.txt", b"caption")]
    data = tar(*members)
    sizes = []
    read = Store.read

    def counted(self, key, *, start=0, end=None):
        answer = read(self, key, start=start, end=end)
        sizes.append(len(answer))
        return answer

    monkeypatch.setattr(Store, "read", counted)
    records = open_tar(tmp_path, data)
    assert len(records) == 20
    assert {record.caption for record in records} == {"caption"}
    assert len(sizes) <= 22
    assert sum(sizes) < 0.1 * len(data)


def link(kind):
    info = tarfile.TarInfo("1.mp4")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def negative():
    """Give an archive whose second header claims a size that leads back to itself."""
    data = bytearray(tar(("1.mp4", b"1"), ("2.mp4", b"2"), format=tarfile.GNU_FORMAT))
    data[1024 + 124 : 1024 + 136] = tarfile.itn(-512, 12, tarfile.GNU_FORMAT)
    checksum = tarfile.calc_chksums(bytes(data[1024:1536]))[0]
    data[1024 + 148 : 1024 + 155] = f"{checksum:06o}\0".encode()
    return bytes(data)


GOOD = tar(("1.mp4", b"x" * 2000), ("2.mp4", b"y"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tar(("../1.mp4", b"")), "leads out"),
        (tar(("/etc/1.mp4", b"")), "leads out"),
        (tar(("a/../../1.mp4", b"")), "leads out"),
        (tar((link(tarfile.SYMTYPE), b"")), "is a link, a device or sparse"),
        (tar((link(tarfile.LNKTYPE), b"")), "is a link"),
        (tar((link(tarfile.CHRTYPE), b"")), "is a link, a device"),
        (tar((link(tarfile.FIFOTYPE), b"")), "is a link, a device"),
        (tar(("1.mp4", b""), ("./1.mp4", b"")), "holds '1.mp4' twice"),
        (tar(("1.mp4", b""), ("1.txt", b"\xff")), "1.mp4"),
        (tar(("1.mp4", b""), ("1.json", b"{")), "JSON cannot be read"),
        (tar(("1.mp4", b""), ("1.json", b"[1]")), "it must be an object"),
        (tar(("1.mp4", b""), ("1.json", b'{"caption": 3}')), "caption is 3"),
        (tar(("1.mp4", b""), ("1.txt", bytes(2 << 20))), "at most 1048576"),
        (tar(("readme.md", b"")), "there is no video in the 1 shards"),
        (negative(), "cut off within '2.mp4'"),
        (GOOD[:1000], "cut off within '1.mp4'"),
        (GOOD[:3072], "cut off within '2.mp4'"),
        (GOOD[:3584], "cut off or damaged after byte 3584"),
        (GOOD[:3000], "cut off or damaged after byte 2560"),
        (GOOD[:2560] + b"garbage" * 200, "cut off or damaged after byte 2560"),
        (gzip.compress(GOOD), "is not a whole, uncompressed tar file"),
        (b"", "is not a whole, uncompressed tar file: empty file"),
    ],
)
def test_a_hostile_or_broken_shard_is_named(tmp_path, data, words):
    with pytest.raises(SourceError, match=r"a\.tar|no video") as caught:
        open_tar(tmp_path, data)
    assert words in str(caught.value)


def test_compressed_shards_are_explained(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(GOOD))
    with pytest.raises(SourceError, match=r"unpack 'a.tar.gz'"):
        open_source(SourceConfig(url=str(tmp_path), format="webdataset"))


def test_shards_beside_videos_must_be_told_apart(tmp_path):
    (tmp_path / "1.mp4").write_bytes(b"")
    with pytest.raises(SourceError, match=r"source.format to 'folder' or 'webdataset'"):
        open_tar(tmp_path, GOOD)
    for format, count in (("folder", 1), ("webdataset", 2)):
        assert len(open_source(SourceConfig(url=str(tmp_path), format=format))) == count


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=40))
def test_damage_ends_in_records_or_in_one_error(tmp_path_factory, place, garbage):
    folder = tmp_path_factory.mktemp("damaged")
    try:
        records = open_tar(folder, GOOD[:place] + garbage + GOOD[place + len(garbage) :])
    except SourceError as error:
        assert "\n" not in str(error)
    else:
        assert all(len(read_media(record)) == record.size_bytes for record in records)


def test_images_in_a_shard_are_clips_when_the_recipe_says_so(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar(("1.mp4", b"1"), ("1.jpg", b"2"), ("1.txt", b"one")))
    for images, names in ((False, ["1.mp4"]), (True, ["1.jpg", "1.mp4"])):
        records = open_source(SourceConfig(url=str(tmp_path), images=images))
        assert [record.id for record in records] == [f"a.tar/{name}" for name in names]
        assert {record.caption for record in records} == {"one"}
