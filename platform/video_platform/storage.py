"""Bytes by key, on a disk, in S3 or elsewhere, with the promises that many writers need.

    store = open_store("s3://bucket/run")
    store.put_if_absent("commits/1.json", b"{}")   # True for exactly one caller in the world
    store.read("data/1.bin", start=100, end=200)

Only the kinds of URL in `BACKENDS` open; keys never lead out of the store. A write shows nothing
until it is whole, and a listing shows what is there now.
"""

import dataclasses
import functools
import os
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from video_platform.errors import StorageError
from video_platform.stores.backend import Backend, MissingKeyError, Stat
from video_platform.stores.foreign import FOREIGN, ForeignBackend
from video_platform.stores.local import LocalBackend
from video_platform.stores.s3 import S3Backend

__all__ = ["BACKENDS", "MissingKeyError", "Stat", "Store", "join_key", "open_store"]

PROBE_WRITERS = 8
"""How many threads the probe sends against each other."""
PROBE_ROUNDS = 4
"""How often: a store that looks first and then writes is caught in about every second race."""


@dataclasses.dataclass(frozen=True)
class Store:
    """A folder or prefix; keys are relative paths with `/`. May be pickled and used in threads."""

    backend: Backend

    @property
    def url(self) -> str:
        """Where it is: an absolute path, or `s3://bucket/prefix`."""
        return self.backend.url

    def child(self, key: str) -> Self:
        """Return the store that is rooted at a key of this one."""
        return dataclasses.replace(self, backend=self.backend.child(join_key(key)))

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes from `start` up to `end`; None is the whole rest.

        Raises:
            MissingKeyError: nothing is there.
        """
        if start < 0 or (end is not None and end < 0):
            raise StorageError(f"cannot read {key!r} from {start} to {end}: both count from 0")
        return self.backend.read(join_key(key), start, end)

    def put(self, key: str, data: bytes) -> None:
        """Replace the content of a key at once; a failure leaves the old content."""
        self.backend.put(join_key(key), data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create a key, and say whether it was this call that created it."""
        return self.backend.put_if_absent(join_key(key), data)

    def put_file_if_absent(self, key: str, path: Path) -> bool:
        """Create a key from a local file without holding it in memory, and say whether we did."""
        if not path.is_file():
            raise StorageError(f"cannot put {str(path)!r} under {key!r}: there is no such file")
        return self.backend.put_if_absent(join_key(key), path)

    def list(self, prefix: str = "") -> "list[str]":
        """Return all keys under a folder, sorted; none if there is no such folder."""
        return sorted(self.scan(prefix))

    def scan(self, prefix: str = "") -> Mapping[str, Stat]:
        """Return all keys under a folder with what is known of each, at the cost of a listing."""
        return self.backend.scan(join_key(prefix, empty=True))

    def stat(self, key: str) -> Stat:
        """Return size, identity and time of a key.

        Raises:
            MissingKeyError: nothing is there, or it is a folder.
        """
        return self.backend.stat(join_key(key))

    def exists(self, key: str) -> bool:
        """Say whether there is content under a key."""
        try:
            self.stat(key)
        except MissingKeyError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Remove a key, if it is there."""
        self.backend.delete(join_key(key))

    def clock(self) -> float:
        """Return the store's own time in seconds since 1970, by which its keys were written."""
        key = f".clock-{secrets.token_hex(8)}"
        self.put(key, b"")
        try:
            return self.stat(key).modified_s
        finally:
            self.delete(key)

    def unfinished(self) -> Mapping[str, float]:
        """Return what writers left half-written, which no listing shows, and when it was begun."""
        return self.backend.unfinished()

    def discard(self, name: str) -> None:
        """Remove one of `unfinished`; a writer that is still at it fails."""
        self.backend.discard(name)

    def local_path(self, key: str) -> Path | None:
        """Return the path of a key on this machine, there or not; None for a remote store."""
        return self.backend.local_path(join_key(key, empty=True))

    def probe(self) -> None:
        """Check that the store can be written, and that of many writers exactly one wins.

        Raises:
            StorageError: it cannot be reached or written, or it breaks a promise.
        """
        key = f".probe-{secrets.token_hex(8)}"
        for number in range(PROBE_ROUNDS):
            self._check_race(f"{key}-{number}")
        try:
            self.put(key, b"written")
            if key not in self.scan():
                raise StorageError(f"{self.url!r} does not list what was just written: {_UNFIT}")
            self.put(key, b"replaced")
            if self.read(key, start=2, end=5) != b"pla":
                raise StorageError(f"{self.url!r} does not read what was just written: {_UNFIT}")
        finally:
            self.delete(key)

    def _check_race(self, key: str) -> None:
        """Check that one of many writers creates a key, knows it, and that its content stays."""
        winners = self._race(key)
        try:
            if winners != (self.read(key),):
                raise StorageError(
                    f"{self.url!r} let {len(winners)} of {PROBE_WRITERS + 1} writers create the "
                    f"same key (conditional writes are missing or broken): {_UNFIT}"
                )
        finally:
            self.delete(key)

    def _race(self, key: str) -> tuple[bytes, ...]:
        """Let threads create one key at the same moment, and one more after; who says it won?"""
        start = threading.Barrier(PROBE_WRITERS)
        offers = [f"writer {number}".encode() for number in range(PROBE_WRITERS)]

        def offer(data: bytes) -> bool:
            start.wait()
            return self.put_if_absent(key, data)

        with ThreadPoolExecutor(PROBE_WRITERS) as threads:
            answers = list(threads.map(offer, offers))
        offers.append(b"late")
        answers.append(self.put_if_absent(key, b"late"))
        return tuple(data for data, won in zip(offers, answers, strict=True) if won)


_UNFIT = "results could be lost there; use a local disk, or an S3 that honours If-None-Match"


def open_store(url: str | os.PathLike[str]) -> Store:
    """Open a folder or prefix; nothing is read, written or created yet.

    Args:
        url: a path, `file:///path`, `s3://bucket/prefix`, or one of a store in `FOREIGN`.

    Raises:
        StorageError: the URL is of another kind, chains file systems with `::`, or is malformed.
    """
    text = os.fspath(url)
    scheme, mark, place = text.partition("://")
    if not mark:
        scheme, place = "file", text
    if "::" in text or scheme not in BACKENDS or (not mark and re.match(r"[\w+.-]+:", text)):
        raise StorageError(
            f"cannot open {_shown(text)}; allowed: a path, file:///path, s3://bucket/prefix, or "
            f"with their packages {', '.join(f'{name}://' for name in FOREIGN)}; "
            "nothing is chained by '::'"
        )
    if not place or not _is_plain(place):
        raise StorageError(
            f"cannot open {_shown(text)}: it is empty, holds control characters or is not UTF-8"
        )
    if mark and scheme == "file" and not place.startswith("/"):
        raise StorageError(f"cannot open {_shown(text)}: file:// takes an absolute path, file:///")
    return Store(BACKENDS[scheme](place))


def join_key(*parts: str, empty: bool = False) -> str:
    """Join the parts of a key and bring it into its one form.

    Args:
        parts: relative paths; doubled slashes and `.` vanish.
        empty: whether the root itself may be meant.

    Raises:
        StorageError: the key is absolute, climbs with `..`, or cannot be a name everywhere.
    """
    names = [name for part in parts for name in part.split("/") if name not in ("", ".")]
    key = "/".join(names)
    reason = None
    if any(part.startswith("/") for part in parts) or ".." in names:
        reason = "it leads out of the store"
    elif "::" in key or "?versionId=" in key or not _is_plain(key):
        reason = "it holds '::', '?versionId=' or control characters, or is not UTF-8"
    elif not key and not empty:
        reason = "it is empty"
    if reason:
        raise StorageError(
            f"key {'/'.join(parts)!r} is refused: {reason}; a key is a relative path like 'a/b.mp4'"
        )
    return key


def _open_local(place: str) -> Backend:
    return LocalBackend(os.path.abspath(os.path.expanduser(place)))


def _open_s3(place: str) -> Backend:
    bucket, _, prefix = place.partition("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise StorageError(
            f"cannot open {_shown('s3://' + place)}: a bucket's name has 3 to 63 lower-case "
            "letters, digits, dots and hyphens; credentials belong in the environment"
        )
    return S3Backend(bucket, join_key(prefix.lstrip("/"), empty=True))


def _open_foreign(protocol: str, place: str) -> Backend:
    bucket, _, prefix = place.partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", bucket):
        raise StorageError(
            f"cannot open {_shown(f'{protocol}://{place}')}: it names no bucket; "
            "credentials belong in the environment"
        )
    return ForeignBackend(protocol, join_key(bucket, prefix.lstrip("/")))


BACKENDS: dict[str, Callable[[str], Backend]] = {
    "file": _open_local,
    "s3": _open_s3,
    **{protocol: functools.partial(_open_foreign, protocol) for protocol in FOREIGN},
}
"""Which kinds of URL open, and how."""


def _is_plain(text: str) -> bool:
    """Say whether a text has no control characters and can be written as UTF-8."""
    return not any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in text)


def _shown(url: str) -> str:
    """Quote a URL without the password that it may hold."""
    return repr(re.sub(r"//[^/@]*@", "//***@", url))
