"""Bring a file within a decoder's reach once, however many clips are cut from it.

A file that is no local one, and that is large or is cut into several clips, is copied piece by
piece into a temporary file without a name: memory stays small, and the copy is gone with the next
file or with the process, even if that is killed.
"""

import os
import tempfile
from pathlib import Path
from typing import IO

from video_platform.datasets.parquet import ParquetRows
from video_platform.datasets.record import Record, identify
from video_platform.datasets.source import read_media
from video_platform.errors import SourceError
from video_platform.storage import Store, open_store
from video_platform.video.media import Media

PIECE_BYTES = 32 << 20
"""How much is read at once, and so the most that is in memory."""


class Fetcher:
    """Holds the last file that clips were cut from.

    Attributes:
        fetched_bytes: how much was copied in all.
    """

    def __init__(self) -> None:
        self.fetched_bytes = 0
        self._rows = ParquetRows()
        self._held: tuple[object, ...] = ()
        self._file: IO[bytes] | None = None

    def media(self, record: Record) -> Media:
        """Return a path or the bytes of the file of a clip; good until the next call.

        Raises:
            SourceError: it is gone, or is not what was listed.
            StorageError: it cannot be read now.
        """
        store = open_store(record.url)
        if record.row is not None:
            return read_media(record, self._rows)
        plain = record.offset is None and store.local_path(record.key) is not None
        small = record.file is None and record.size_bytes <= PIECE_BYTES
        if plain or small:
            return read_media(record, self._rows)
        wanted = (record.url, record.key, record.offset, record.size_bytes, record.identity)
        if wanted != self._held or self._file is None:
            self._fetch(store, record)
            self._held = wanted
        assert self._file is not None, "it was fetched just now"  # noqa: S101
        return Path(f"/proc/{os.getpid()}/fd/{self._file.fileno()}")

    def _fetch(self, store: Store, record: Record) -> None:
        """Copy a file, or the part of one that a shard's video is."""
        self._held = ()
        if self._file is not None:
            self._file.close()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (it stays open until the next)
        begin, end = record.offset or 0, (record.offset or 0) + record.size_bytes
        _check(store, record)
        for start in range(begin, end, PIECE_BYTES):
            self._file.write(store.read(record.key, start=start, end=min(start + PIECE_BYTES, end)))
        self._file.flush()
        _check(store, record)  # it was read in pieces, and could have been replaced in between
        self.fetched_bytes += record.size_bytes


def _check(store: Store, record: Record) -> None:
    if identify(store.stat(record.key), record.offset, record.size_bytes) != record.identity:
        raise SourceError(f"{record.id!r} in {record.url!r} has changed since it was listed")
