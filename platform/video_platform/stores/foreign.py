"""Stores of other kinds, through the fsspec package that knows them: one row of `FOREIGN` each.

They hold sources. Whether one can hold a cache is for its probe to say: a key is created in the
exclusive mode of fsspec, which some stores honour and others only seem to. What is put shows when
it is whole, for it is put in one call; a writer whose answer was lost may be told that it came
second.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from video_platform.errors import StorageError
from video_platform.stores.backend import MissingKeyError, Stat

IDENTITIES = ("generation", "etag", "ETag", "e_tag")
"""What stores call that which changes with the content."""
TIMES = ("updated", "last_modified", "LastModified", "mtime", "created")
"""What they call the time of the last change."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Foreign:
    """How a kind of store is reached."""

    package: str
    """What must be installed; this project's extra of the same name as the protocol does so."""
    failure: str
    """What its package raises that is no OSError, as `module:name`."""


FOREIGN = {
    "az": Foreign(package="adlfs", failure="azure.core.exceptions:AzureError"),
    "gs": Foreign(package="gcsfs", failure="gcsfs.retry:HttpError"),
}
"""By protocol; credentials come from the environment of whoever runs the process."""


@dataclasses.dataclass(frozen=True)
class ForeignBackend:
    """A bucket or container and a prefix in it."""

    protocol: str
    path: str

    @property
    def url(self) -> str:
        """Return `protocol://bucket/prefix`."""
        return f"{self.protocol}://{self.path}"

    def child(self, key: str) -> Self:
        """Return a longer prefix."""
        return dataclasses.replace(self, path=self._name(key))

    def read(self, key: str, start: int, end: int | None) -> bytes:
        """Return part of an object, in full or not at all."""
        with self._explained(key) as filesystem:
            size = int(self._info(filesystem, key)["size"])
            end = size if end is None else min(end, size)
            if end <= start:
                return b""
            data: bytes = filesystem.cat_file(self._name(key), start=start, end=end)
            if len(data) != end - start:
                raise OSError(f"{len(data)} of {end - start} bytes came")
        return data

    def put(self, key: str, source: bytes | Path) -> None:
        """Send an object."""
        with self._explained(key) as filesystem:
            self._send(filesystem, key, source, "overwrite")

    def put_if_absent(self, key: str, source: bytes | Path) -> bool:
        """Send an object in fsspec's exclusive mode."""
        with self._explained(key) as filesystem:
            try:
                self._send(filesystem, key, source, "create")
            except FileExistsError:
                return False
        return True

    def scan(self, prefix: str) -> dict[str, Stat]:
        """List every object."""
        top = self._name(prefix)
        with self._explained(prefix) as filesystem:
            found = filesystem.find(top, detail=True)
        within = {name: info for name, info in found.items() if name.startswith(f"{top}/")}
        return {name[len(self.path) + 1 :]: _stat(info) for name, info in within.items()}

    def stat(self, key: str) -> Stat:
        """Return size, identity and time of an object."""
        with self._explained(key) as filesystem:
            return _stat(self._info(filesystem, key))

    def delete(self, key: str) -> None:
        """Delete an object."""
        with self._explained(key) as filesystem, contextlib.suppress(FileNotFoundError):
            filesystem.rm_file(self._name(key))

    def unfinished(self) -> dict[str, float]:
        """Return nothing: what is half-written, if anything, cannot be listed."""
        return {}

    def discard(self, name: str) -> None:
        """Do nothing."""

    def local_path(self, key: str) -> None:
        """Return None: there is no file."""

    def _name(self, key: str) -> str:
        return f"{self.path}/{key}".rstrip("/")

    def _info(self, filesystem: Any, key: str) -> dict[str, Any]:
        info: dict[str, Any] = filesystem.info(self._name(key))
        if info["type"] != "file":
            raise FileNotFoundError(key)
        return info

    def _send(self, filesystem: Any, key: str, source: bytes | Path, mode: str) -> None:
        if isinstance(source, Path):
            filesystem.put_file(str(source), self._name(key), mode=mode)
        else:
            filesystem.pipe_file(self._name(key), source, mode=mode)

    @contextlib.contextmanager
    def _explained(self, key: str) -> Iterator[Any]:
        """Give the file system, and turn what it says into a sentence."""
        filesystem, failure = _open(self.protocol)
        try:
            yield filesystem
        except (FileNotFoundError, IsADirectoryError):
            raise MissingKeyError(f"there is no {key!r} in {self.url!r}") from None
        except (OSError, failure) as error:
            raise StorageError(
                f"cannot use {key!r} in {self.url!r}: {error}; check the network and the "
                f"credentials that {FOREIGN[self.protocol].package} finds"
            ) from error


def _open(protocol: str) -> tuple[Any, type[Exception]]:
    """Return the file system of this process, and what it raises besides OSError."""
    import fsspec

    row = FOREIGN[protocol]
    try:
        filesystem = fsspec.filesystem(protocol, use_listings_cache=False)
        module, _, name = row.failure.partition(":")
        failure: type[Exception] = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise StorageError(
            f"{protocol}:// needs {row.package}, which is not installed ({error}); "
            f"pip install 'video-diffusion-platform[{protocol}]'"
        ) from None
    filesystem.invalidate_cache()
    return filesystem, failure


def _stat(info: dict[str, Any]) -> Stat:
    time = next((info[name] for name in TIMES if info.get(name) is not None), 0.0)
    modified_s = time.timestamp() if hasattr(time, "timestamp") else _seconds(time)
    identity = next((str(info[name]) for name in IDENTITIES if info.get(name)), None)
    return Stat(
        size_bytes=int(info["size"]),
        identity=identity or f"{modified_s}-{info['size']}",
        modified_s=modified_s,
    )


def _seconds(time: float | str) -> float:
    """Return seconds since 1970 of what is a number of these or an ISO 8601 date."""
    import datetime

    if isinstance(time, str):
        return datetime.datetime.fromisoformat(time).timestamp()
    return time
