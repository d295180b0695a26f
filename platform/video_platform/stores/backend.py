"""What every place for bytes must offer to `video_platform.storage`, and in which terms.

A backend is rooted at one folder or prefix, is a frozen dataclass (so that it can be sent to
another process) and keeps no open connection in its fields. To add one: write it here, add a row
to `BACKENDS` in `video_platform/storage.py` and a class of three lines to its tests.
"""

import dataclasses
from pathlib import Path
from typing import Protocol, Self

from video_platform.errors import StorageError


class MissingKeyError(StorageError):
    """The store holds nothing under the key."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stat:
    """What a store knows of one key without reading it."""

    size_bytes: int
    identity: str
    """Changes when the content does: the ETag, or time of change and size."""
    modified_s: float
    """Seconds since 1970."""


class Backend(Protocol):
    """Keys are normalised before they get here; a `StorageError` names what went wrong."""

    @property
    def url(self) -> str:
        """Say where this is, so that `open_store` opens it again."""

    def child(self, key: str) -> Self:
        """Return the same place, rooted deeper."""

    def read(self, key: str, start: int, end: int | None) -> bytes:
        """Return bytes from `start` up to `end`, fewer where the content is shorter."""

    def put(self, key: str, source: bytes | Path) -> None:
        """Replace the content so that nobody ever sees a part of it."""

    def put_if_absent(self, key: str, source: bytes | Path) -> bool:
        """Create the key; of any number of callers exactly one gets True."""

    def scan(self, prefix: str) -> dict[str, Stat]:
        """Return every key under a folder, as it is now."""

    def stat(self, key: str) -> Stat:
        """Return what is known of one key."""

    def delete(self, key: str) -> None:
        """Remove the key, if it is there."""

    def unfinished(self) -> dict[str, float]:
        """Return what writers left half-written, and when each was begun, in seconds since 1970."""

    def discard(self, name: str) -> None:
        """Remove one of `unfinished`, if it is still there."""

    def local_path(self, key: str) -> Path | None:
        """Return the file behind a key, or None when there is none on this machine."""
