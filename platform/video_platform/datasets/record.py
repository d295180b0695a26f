"""One clip of a dataset: where its bytes are, what it shows, how to tell that it has changed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from video_platform.storage import Stat
from video_platform.video.policy import ClipSize


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A clip: a video file or a video inside a tar shard, the whole of it or a part."""

    id: str
    """Unique in its dataset, and the same when other clips are added: the path within the dataset
    (`walks/dog.mp4`, `train-0001.tar/000042.mp4`), or the manifest's `id` column."""
    url: str
    """The store that holds it."""
    key: str
    """The file within that store: the video, or the shard."""
    offset: int | None = None
    """First byte of the video in the shard; None when the file is the video."""
    row: int | None = None
    """Row of the Parquet table whose column holds the video; None when it is no such table."""
    size_bytes: int
    """Length of the video; in a Parquet table that of all rows that are read with it."""
    identity: str
    """Changes when the content does: the ETag, or time and size; in a shard also the place."""
    caption: str | None = None
    """What it shows; None when the dataset does not say."""
    program: dict[str, Any] | None = None
    """Ground truth of a synthetic clip."""
    file: str | None = None
    """Id of the record of the whole video that this clip was cut from; None when it is that."""
    start_s: float = 0.0
    """Where the clip begins, in seconds after the first frame that the video shows."""
    size: ClipSize | None = None
    """The size at which it is decoded; None is that of the recipe's `pixels`."""

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "Record":
        """Read what `dataclasses.asdict` made."""
        size = tree["size"]
        return cls(**{**tree, "size": None if size is None else ClipSize(*size)})


def identify(
    stat: Stat, offset: int | None = None, size_bytes: int = 0, *, row: int | None = None
) -> str:
    """Return the identity of a file, of the part of a shard at an offset, or of a table's row."""
    if row is not None:
        return f"{stat.identity}#{row}"
    return stat.identity if offset is None else f"{stat.identity}@{offset}+{size_bytes}"
