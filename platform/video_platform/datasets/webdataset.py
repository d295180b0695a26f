"""Tar shards in the WebDataset layout: files of one clip share their name up to the first dot.

train-0000.tar:  000.mp4  000.txt  000.json    001.mp4  001.txt ...

Only headers, captions and JSON are read to list a shard; a video is then one ranged read. Nothing
is extracted or unpickled. The caption is the `.txt`, else "caption" (or "text", or "prompt") of the
`.json`; the ground truth is its "program".
"""

import dataclasses
import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from video_platform.datasets.config import SourceConfig
from video_platform.datasets.listing import IMAGES, SHARDS, VIDEOS, Listing
from video_platform.datasets.record import Record, identify
from video_platform.datasets.tables import CAPTIONS, clean_caption, parse_program
from video_platform.errors import SourceError, StorageError
from video_platform.storage import Store, join_key

WINDOW_BYTES = 64 << 10
"""How much is read at once while headers are looked for."""
MAX_TEXT_BYTES = 1 << 20
"""The longest caption, JSON or header; a longer one is an attack or a mistake."""


def list_shards(listing: Listing, config: SourceConfig) -> list[Record]:
    """List the videos in every shard."""
    shards = listing.ending(SHARDS)
    if not shards:
        packed = [key for key in listing.files if ".tar." in key or key.endswith(".tgz")]
        hint = f"; unpack {packed[0]!r} with gunzip, it cannot be read in part" if packed else ""
        raise SourceError(f"there is no .tar file in {listing.store.url!r}{hint}")
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda key: _list_shard(listing, key, config), shards)
        records = [record for shard in found for record in shard]
    if not records:
        raise SourceError(
            f"there is no video in the {len(shards)} shards of {listing.store.url!r}; "
            f"looked for {' '.join(VIDEOS)}"
        )
    return records


@dataclasses.dataclass(frozen=True)
class _Member:
    """A file in a shard, with its content if it is text."""

    name: str
    offset: int
    size_bytes: int
    text: bytes | None


def _list_shard(listing: Listing, key: str, config: SourceConfig) -> list[Record]:
    store, stat = listing.store, listing.files[key]
    endings = VIDEOS + IMAGES if config.images else VIDEOS
    where = f"{store.url}/{key}"
    clips: dict[str, dict[str, _Member]] = {}
    for member in _members(_Window(store, key, stat.size_bytes), where):
        folder, slash, file = member.name.rpartition("/")
        stem, _, extension = file.partition(".")
        clip = clips.setdefault(folder + slash + stem, {})
        if clip.setdefault("." + extension.lower(), member) is not member:
            raise SourceError(f"{where} holds {member.name!r} twice")
    return [
        Record(
            id=f"{key}/{member.name}",
            url=store.url,
            key=key,
            offset=member.offset,
            size_bytes=member.size_bytes,
            identity=identify(stat, member.offset, member.size_bytes),
            **_description(clip, f"{where}: {member.name}", config.caption_column),
        )
        for clip in clips.values()
        for extension, member in clip.items()
        if extension in endings
    ]


def _description(clip: dict[str, _Member], where: str, column: str | None) -> dict[str, Any]:
    """Read caption and program of a clip."""
    text, extra = clip.get(".txt"), clip.get(".json")
    try:
        caption = None if text is None else (text.text or b"").decode("utf-8-sig")
        fields = {} if extra is None else json.loads(extra.text or b"")
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: its text or JSON cannot be read: {error}") from None
    if not isinstance(fields, dict):
        raise SourceError(f"{where}: its JSON is {fields!r}; it must be an object")
    words = column or next((name for name in CAPTIONS if name in fields), CAPTIONS[0])
    return {
        "caption": clean_caption(fields.get(words) if caption is None else caption, where),
        "program": parse_program(fields.get("program"), where),
    }


def _members(window: "_Window", where: str) -> Iterator[_Member]:
    """Walk the headers of a shard.

    Raises:
        SourceError: it is compressed, cut off or damaged, or holds links or names that lead out.
    """
    try:
        with tarfile.open(fileobj=window, mode="r:") as tar:
            position = 0
            while (info := tar.next()) is not None:
                if info.offset < position:
                    raise SourceError(f"{where} is damaged: a header points backwards")
                position = info.offset_data
                if not info.isdir():
                    yield _member(info, window, where)
            window.seek(tar.offset)
            if window.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise SourceError(f"{where} is cut off or damaged after byte {tar.offset}")
    except (tarfile.TarError, ValueError, RecursionError) as error:
        raise SourceError(
            f"{where} is not a whole, uncompressed tar file: {str(error) or 'nested headers'}"
        ) from None


def _member(info: tarfile.TarInfo, window: "_Window", where: str) -> _Member:
    try:
        name = join_key(info.name)
    except StorageError as error:
        raise SourceError(f"{where}: {error}") from None
    if not info.isreg() or info.issparse():
        raise SourceError(f"{where}: {name!r} is a link, a device or sparse; pack plain files only")
    if not 0 <= info.size <= window.size_bytes - info.offset_data:
        raise SourceError(f"{where} is cut off within {name!r}")
    text = None
    if name.lower().endswith((".txt", ".json")):
        window.seek(info.offset_data)
        text = window.read(info.size)
    return _Member(name, info.offset_data, info.size, text)


class _Window(io.RawIOBase):
    """A file in a store that is read in windows, so that a header scan costs few requests."""

    def __init__(self, store: Store, key: str, size_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes
        self._store, self._key = store, key
        self._position, self._start, self._bytes = 0, 0, b""

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < 0:
            raise ValueError(f"a seek to {offset}")
        self._position = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_TEXT_BYTES:
            raise ValueError(f"a header or text of {size} bytes; at most {MAX_TEXT_BYTES}")
        begin = self._position - self._start
        if begin < 0 or begin + size > len(self._bytes):
            end = min(self.size_bytes, self._position + max(size, WINDOW_BYTES))
            self._start, begin = self._position, 0
            self._bytes = self._store.read(self._key, start=self._position, end=end)
        data = self._bytes[begin : begin + size]
        self._position += len(data)
        return data
