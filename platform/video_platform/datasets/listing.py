"""What lies under the URL of a dataset, listed once; every format picks what it knows from it."""

import dataclasses
import fnmatch
from collections.abc import Mapping
from pathlib import PurePosixPath

from video_platform.datasets.config import SourceConfig
from video_platform.errors import SourceError
from video_platform.storage import MissingKeyError, Stat, Store, open_store

VIDEOS = (
    *(".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
    *(".264", ".265", ".h264", ".h265", ".hevc", ".ivf", ".obu"),
)
"""What a video file is called, in lower case; whether it is one shows when it is opened."""
IMAGES = (".jpeg", ".jpg", ".png", ".webp")
TABLES = (".jsonl", ".csv", ".parquet")
SHARDS = (".tar",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listing:
    """A store and the files in it, without hidden ones."""

    store: Store
    files: Mapping[str, Stat]
    single: bool
    """Whether the URL named one file rather than a folder."""

    def ending(self, endings: tuple[str, ...]) -> list[str]:
        """Return the files with one of the endings, sorted."""
        return sorted(key for key in self.files if suffix(key) in endings)

    def media(self, config: SourceConfig) -> list[str]:
        """Return the files that are called like a clip, sorted."""
        return self.ending(VIDEOS + IMAGES if config.images or self.single else VIDEOS)


def suffix(key: str) -> str:
    """Return the ending of a file's name, in lower case."""
    return PurePosixPath(key).suffix.lower()


def list_files(config: SourceConfig) -> Listing:
    """List a folder, or the one file that the URL names.

    Raises:
        SourceError: there is nothing, or nothing that `config.include` asks for.
    """
    store = open_store(config.url)
    folder, _, name = store.url.rpartition("/")
    if suffix(name) in VIDEOS + IMAGES + TABLES + SHARDS:
        parent = open_store(folder or "/")
        try:
            return Listing(store=parent, files={name: parent.stat(name)}, single=True)
        except MissingKeyError:
            pass  # a folder may be called `clips.mp4`
    files = {key: stat for key, stat in store.scan().items() if not _hidden(key)}
    if not files:
        path = store.local_path("")
        what = "no such file or folder" if path is not None and not path.exists() else "no file"
        raise SourceError(
            f"there is {what} at {store.url!r}; set source.url to where the videos are"
        )
    if config.include is not None:
        kept = {key: files[key] for key in files if fnmatch.fnmatchcase(key, config.include)}
        if not kept:
            raise SourceError(
                f"source.include = {config.include!r} leaves none of the {len(files)} files in "
                f"{store.url!r}, such as {min(files)!r}"
            )
        files = kept
    return Listing(store=store, files=files, single=False)


def _hidden(key: str) -> bool:
    return any(name.startswith(".") for name in key.split("/"))
