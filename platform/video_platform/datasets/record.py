"""One clip of a dataset: where its bytes are, what it shows, how to tell that it has changed."""

import dataclasses
from typing import Any

from video_platform.storage import Stat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One video file, or one video inside a tar shard."""

    id: str
    """Unique in its dataset, and the same when other clips are added: the path within the dataset
    (`walks/dog.mp4`, `train-0001.tar/000042.mp4`), or the manifest's `id` column."""
    url: str
    """The store that holds it."""
    key: str
    """The file within that store: the video, or the shard."""
    offset: int | None = None
    """First byte of the video in the shard; None when the file is the video."""
    size_bytes: int
    """Length of the video."""
    identity: str
    """Changes when the content does: the ETag, or time and size; in a shard also the place."""
    caption: str | None = None
    """What it shows; None when the dataset does not say."""
    program: dict[str, Any] | None = None
    """Ground truth of a synthetic clip."""


def identify(stat: Stat, offset: int | None, size_bytes: int) -> str:
    """Return the identity of a file, or of the part of a shard that starts at an offset."""
    return stat.identity if offset is None else f"{stat.identity}@{offset}+{size_bytes}"
