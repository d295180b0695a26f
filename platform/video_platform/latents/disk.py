"""Pieces of a remote store on a local disk, shared by all processes and jobs of a machine.

    disk = DiskCache("/scratch/vdp", limit_bytes=200 << 30)
    disk.read("s3://bucket/cache/shard#0-540000", 540000, fetch)

A piece is a file of its own that gets its name when it is whole, so that nobody ever sees half of
one, and a process may be killed at any moment. There is no list of what is there and nothing is
locked to read: a file's time of change says when it was used last, and whoever has written enough,
or writes for the first time, looks for the oldest ones. The folder may hold more than its limit by
1/32 of it for each process. What a disk did to a piece is for the reader to find, by its checksum,
and to `forget`; a disk that fails costs speed and nothing else.

Where more is read than fits, again and again in random orders, to put every new piece in the place
of an old one would throw each out shortly before it is wanted. So while all that is there is fresh,
only one new piece in eight is kept.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import logging
import mmap
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""
ABANDONED_S = 600.0
"""Age at which such a file belongs to nobody any more."""
TOUCH_S = 60.0
"""How exactly it is known when a piece was used last."""
FRESH_S = 86400.0
"""How long a piece that was used is worth more than one that is new."""
ADMITTED = 1 / 8
"""Share of the new pieces that are kept while all others are fresh."""
LOCKS = 256
"""Different locks that keep processes from fetching the same large piece at once."""

Fetch = Callable[[], bytes]


@dataclasses.dataclass
class DiskCache:
    """A folder of pieces; may be used by several threads and processes, and pickled."""

    folder: str
    """Where the pieces lie; on a local disk. It is made when it is first needed."""
    limit_bytes: int
    """How much they may take together."""

    def __post_init__(self) -> None:
        if self.limit_bytes < 1:
            raise ValueError(f"limit_bytes = {self.limit_bytes!r}; it must be at least 1")
        self._written = self.limit_bytes  # what earlier processes left is looked at with the first
        self._crowded = self._warned = False
        self._lock = threading.Lock()

    def read(self, name: str, size_bytes: int, fetch: Fetch) -> bytearray:
        """Return a piece, fetched if it is not there.

        Args:
            name: of the piece; its content never changes.
            size_bytes: its length; a file of another one is not believed.
            fetch: brings its bytes.
        """
        path = self._path(name)
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if status.st_size == size_bytes:
                data = bytearray(size_bytes)
                if file.readinto(data) == size_bytes:
                    _touch(path, status)
                    return data
        fetched = fetch()
        admitted = not self._crowded or random.random() < ADMITTED  # noqa: S311  (no secret)
        if len(fetched) == size_bytes and admitted:
            self._keep(path, fetched)
        return bytearray(fetched)

    def map(self, name: str, size_bytes: int, fetch: Fetch) -> Any:
        """Return a piece as a map of its file; of many processes only one fetches it."""
        path = self._path(name)
        found = _map(path, size_bytes)
        if found is None:
            with self._fetching(path):
                found = _map(path, size_bytes)
                if found is None:
                    fetched = fetch()
                    if len(fetched) != size_bytes or not self._keep(path, fetched):
                        return fetched
                    found = _map(path, size_bytes) or fetched
        return found

    def forget(self, name: str) -> None:
        """Remove a piece, if it is there."""
        self._path(name).unlink(missing_ok=True)

    def size_bytes(self) -> int:
        """Return how much all pieces take now."""
        return sum(status.st_size for _, status in self._files())

    def evict(self) -> None:
        """Remove the pieces used longest ago until the rest fits; one process at a time does."""
        with _flock(Path(self.folder, "evict.lock"), wait=False) as mine:
            if not mine:
                return
            files = sorted(self._files(), key=lambda file: file[1].st_mtime)
            total, now = sum(status.st_size for _, status in files), time.time()
            oldest = 0.0
            for path, status in files:
                partial = path.endswith(PARTIAL)
                if (partial and status.st_mtime < now - ABANDONED_S) or (
                    not partial and total > self.limit_bytes * 0.95
                ):
                    Path(path).unlink(missing_ok=True)
                    total -= status.st_size
                elif not partial:
                    oldest = oldest or status.st_mtime
            self._crowded = total > self.limit_bytes * 0.9 and oldest > now - FRESH_S

    def _keep(self, path: Path, data: bytes) -> bool:
        """Write a piece, unless the disk is full."""
        partial = path.parent / f"{secrets.token_hex(8)}{PARTIAL}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_bytes(data)
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            if not self._warned:
                log.warning("nothing is kept in %s: %s", self.folder, error.strerror)
            self._warned = True
            return False
        self._count(len(data))
        return True

    def _count(self, size_bytes: int) -> None:
        """Evict whenever this process has written another 1/32 of the limit."""
        with self._lock:
            self._written += size_bytes
            due = self._written > self.limit_bytes // 32
            if due:
                self._written = 0
        if due:
            self.evict()

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield every piece, whole or not."""
        for folder in _entries(self.folder):
            for entry in _entries(folder.path) if folder.is_dir() else ():
                with contextlib.suppress(FileNotFoundError):  # another process removed it
                    yield entry.path, entry.stat()

    def _path(self, name: str) -> Path:
        key = hashlib.sha256(name.encode()).hexdigest()[:40]
        return Path(self.folder, key[:2], key[2:])

    @contextlib.contextmanager
    def _fetching(self, path: Path) -> Iterator[None]:
        """Let one process at a time into the block; a lock dies with the process that holds it."""
        number = int(path.parent.name + path.name[:4], 16) % LOCKS
        with _flock(Path(self.folder, f"fetch-{number}.lock"), wait=True):
            yield

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "limit_bytes": self.limit_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a pickled copy is a new object


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except FileNotFoundError:
        return []


def _map(path: Path, size_bytes: int) -> Any:
    """Map a piece if it is there, whole."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_size == size_bytes and size_bytes:
            _touch(path, status)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return None


def _touch(path: Path, status: os.stat_result) -> None:
    """Note that a piece is in use."""
    if time.time() - status.st_mtime > TOUCH_S:
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)


@contextlib.contextmanager
def _flock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock inside the block, and say whether we got it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
