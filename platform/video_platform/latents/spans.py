"""Read pieces of files: from memory maps on a local disk, by ranged reads anywhere else.

Remote pieces may be kept on a local disk, which all processes of a machine then share.
"""

import mmap
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from video_platform.errors import CorruptCacheError
from video_platform.latents.disk import DiskCache
from video_platform.storage import MissingKeyError, Store

OPEN_MAPS = 256
"""Most shards mapped at one time; fewer than a process may have open files."""


class SpanReader:
    """Reads bytes of files that never change; may be used by several threads.

    Args:
        store: where the files are.
        disk: where pieces of remote files are kept; None keeps none.
    """

    def __init__(self, store: Store, disk: DiskCache | None = None) -> None:
        self._store = store
        self._local = store.local_path("") is not None
        self._disk = disk
        self._maps: OrderedDict[str, Any] = OrderedDict()
        self._folders: dict[str, Path] = {}
        self._lock = threading.Lock()

    def read(self, key: str, start: int, end: int) -> Any:
        """Return the bytes of a file from `start` up to `end`, fewer where it is shorter.

        They lie in a buffer that may be written to, which changes no file.

        Raises:
            CorruptCacheError: the file is missing.
        """
        if self._local:
            return memoryview(self._map(key))[start:end]
        if self._disk is None:
            return bytearray(self._fetch(key, start, end))
        name = f"{self._store.url}/{key}#{start}-{end}"
        return self._disk.read(name, end - start, lambda: self._fetch(key, start, end))

    def forget(self, key: str, start: int, end: int) -> None:
        """Drop what may be kept of a piece on the local disk."""
        if self._disk is not None:
            self._disk.forget(f"{self._store.url}/{key}#{start}-{end}")

    def forget_whole(self, key: str) -> None:
        """Drop what may be kept of a whole file on the local disk."""
        if self._disk is not None:
            self._disk.forget(f"{self._store.url}/{key}")

    def read_whole(self, key: str, size_bytes: int) -> Any:
        """Return a buffer of a whole file; mapped where it is on a local disk, or kept on one.

        Raises:
            CorruptCacheError: the file is missing.
        """
        if self._local:
            return self._map(key, keep=False)
        if self._disk is None:
            return self._fetch(key, 0, None)
        name = f"{self._store.url}/{key}"
        return self._disk.map(name, size_bytes, lambda: self._fetch(key, 0, None))

    def _fetch(self, key: str, start: int, end: int | None) -> bytes:
        try:
            return self._store.read(key, start=start, end=end)
        except MissingKeyError:
            raise self._lacks(key) from None

    def _map(self, key: str, *, keep: bool = True) -> Any:
        """Map a file, and let go of the one that was used longest ago."""
        with self._lock:
            found = self._maps.get(key)
            if found is not None:
                self._maps.move_to_end(key)
                return found
        try:
            found = map_file(self._path(key))
        except (MissingKeyError, FileNotFoundError):
            raise self._lacks(key) from None
        if keep:
            with self._lock:
                self._maps[key] = found
                while len(self._maps) > OPEN_MAPS:
                    self._maps.popitem(last=False)
        return found

    def _path(self, key: str) -> Path:
        """Return where a file is; its folder is looked up once, which takes longer than to map."""
        folder, _, name = key.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._store.local_path(folder) or Path()
        return self._folders[folder] / name

    def _lacks(self, key: str) -> CorruptCacheError:
        return CorruptCacheError(f"{self._store.url} lacks {key}; see `vdp cache verify`")


def map_file(path: Path) -> Any:
    """Map a file; what is written to the map is seen by nobody else."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return bytearray()  # what has no bytes cannot be mapped
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
