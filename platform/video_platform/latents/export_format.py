"""What a format must offer so that a cache can be exported to it.

To add one: write it in a file of its own and add a row to `FORMATS` in `export.py`.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol

from video_platform.latents.reader import StoredSample


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """One shard that is there."""

    name: str
    """Its key in the export."""
    samples: int
    """How many it holds."""
    size_bytes: int
    """Its size."""
    sha256: str
    """Hash of its bytes."""


class ShardFormat(Protocol):
    """One format, for samples that are like a first one."""

    def name(self, number: int) -> str:
        """Return the key of a shard, counted from 0."""

    def shard(self, samples: Iterable[StoredSample], first: int) -> bytes:
        """Return the content of a shard whose first sample has that place in the snapshot.

        Raises:
            CacheError: a sample does not fit.
        """

    def index(self, shards: Sequence[Written]) -> tuple[str, bytes]:
        """Return key and content of the file that readers open."""
