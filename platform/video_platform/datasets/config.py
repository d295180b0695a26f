"""Where a dataset is and how it is laid out: the `source` section of a recipe."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """A dataset of videos, on a local disk or in an S3 bucket."""

    url: str
    """A folder, a manifest (.jsonl, .csv, .parquet), a shard (.tar) or one video; path or s3://."""
    format: Literal["auto", "folder", "webdataset", "manifest"] = "auto"
    """How it is laid out; "auto" looks."""
    captions: str | None = None
    """Name of the captions file in a folder of videos (.jsonl, .csv, .parquet); None takes
    `captions.jsonl`, `captions.csv` or `captions.parquet`, the first that is there. A video that
    the file leaves out has the caption in the `.txt` of its own name, if there is one."""

    def __post_init__(self) -> None:
        if not self.url.strip():
            raise ValueError("url is empty; give a folder, a manifest, a shard or an s3:// URL")
        if self.captions is not None and self.format not in ("auto", "folder"):
            raise ValueError(f"captions has no meaning for format {self.format!r}; leave it out")
