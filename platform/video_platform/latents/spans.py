"""Read pieces of files: from memory maps on a local disk, by ranged reads anywhere else."""

import mmap
from collections import OrderedDict
from pathlib import Path

from video_platform.errors import CorruptCacheError
from video_platform.storage import MissingKeyError, Store

OPEN_MAPS = 64
"""Most files mapped at one time."""


class SpanReader:
    """Reads bytes of files that never change; may be used by several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()

    def read(self, key: str, start: int, end: int) -> bytes | memoryview:
        """Return the bytes of a file from `start` up to `end`, fewer where it is shorter.

        Raises:
            CorruptCacheError: the file is missing.
        """
        try:
            path = self._store.local_path(key)
            if path is None:
                return self._store.read(key, start=start, end=end)
            return memoryview(self._map(key, path))[start:end]
        except (MissingKeyError, FileNotFoundError):
            raise CorruptCacheError(
                f"{self._store.url} lacks {key}; see `vdp cache verify`"
            ) from None

    def _map(self, key: str, path: Path) -> mmap.mmap | bytes:
        """Map a file, and let go of the one that was used longest ago."""
        found = self._maps.pop(key, None)
        if found is None:
            with path.open("rb") as file:
                if not path.stat().st_size:
                    return b""  # what has no bytes cannot be mapped
                found = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps[key] = found
        while len(self._maps) > OPEN_MAPS:
            self._maps.popitem(last=False)
        return found
