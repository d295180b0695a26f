"""Where a dataset is and how it is laid out: the `source` section of a recipe."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """A dataset of videos, on a local disk or in any store that `storage` opens."""

    url: str
    """A folder, a table (.jsonl, .csv, .parquet), a shard (.tar) or one video; a path or s3://."""
    format: Literal["auto", "folder", "huggingface", "manifest", "webdataset"] = "auto"
    """How it is laid out; "auto" looks."""
    captions: str | None = None
    """The captions file of a folder of videos (.jsonl, .csv, .parquet), whose paths count from
    where it lies; None takes, in each folder, the first of `captions.jsonl`, `captions.csv` and
    `captions.parquet` that is there. A video that none names has the caption in the `.txt` of its
    own name, if there is one."""
    caption_column: str | None = None
    """Column of a table, or field of the JSON in a shard, that holds the captions; None takes
    `caption`, `text` or `prompt`, the first that is there."""
    images: bool = False
    """Whether files called `.png`, `.jpg` or `.webp` are clips of one frame. If not, they are
    taken for thumbnails; a table or metadata file may name them all the same."""
    include: str | None = None
    """Pattern of the paths within the folder that are read, such as `data/train-*`; `*` also
    stands for `/`. None reads all."""

    def __post_init__(self) -> None:
        if not self.url.strip():
            raise ValueError("url is empty; give a folder, a manifest, a shard or an s3:// URL")
        if self.captions is not None and self.format not in ("auto", "folder"):
            raise ValueError(f"captions has no meaning for format {self.format!r}; leave it out")
