"""Open a dataset, whatever its layout, and read its media.

    records = open_source(SourceConfig(url="s3://bucket/clips"))
    media = read_media(records[0])      # a path where there is a local file, else bytes

A new layout is a function and a row in `FORMATS`.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from video_platform.config import pick
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.folder import list_folder
from video_platform.datasets.huggingface import METADATA, list_dataset
from video_platform.datasets.listing import (
    IMAGES,
    SHARDS,
    TABLES,
    VIDEOS,
    Listing,
    list_files,
    suffix,
)
from video_platform.datasets.manifest import NAMES, list_manifest
from video_platform.datasets.parquet import ParquetRows, media_column, open_table
from video_platform.datasets.record import Record, identify
from video_platform.datasets.webdataset import list_shards
from video_platform.errors import SourceError
from video_platform.storage import MissingKeyError, open_store

FORMATS: dict[str, Callable[[Listing, SourceConfig], list[Record]]] = {
    "folder": list_folder,
    "huggingface": list_dataset,
    "manifest": list_manifest,
    "webdataset": list_shards,
}
"""How each layout is listed."""


def open_source(config: SourceConfig) -> list[Record]:
    """List every clip of a dataset, sorted by id; no video is opened.

    Raises:
        SourceError: there is none, a caption or manifest row does not fit, two ids are equal.
        StorageError: the place cannot be reached or is not allowed.
    """
    listing = list_files(config)
    name = detect_format(listing) if config.format == "auto" else config.format
    records = sorted(pick(FORMATS, name, "format")(listing, config), key=lambda record: record.id)
    for first, second in itertools.pairwise(records):
        if first.id == second.id:
            raise SourceError(
                f"two clips of {config.url!r} have the id {first.id!r}; "
                "name each once, or give each row of the manifest its own 'id'"
            )
    for record in records:
        if not _is_text(record.id) or not _is_text(record.caption or ""):
            raise SourceError(
                f"the name or caption of {record.id!r} in {config.url!r} is not valid UTF-8; "
                "rename or rewrite it"
            )
    return records


def detect_format(listing: Listing) -> str:
    """Tell the layout from the names of the files.

    Raises:
        SourceError: there are shards and videos side by side, or files that are not read.
    """
    names = list(listing.files)
    if listing.single:
        ending = suffix(names[0])
        if ending == ".parquet" and media_column(open_table(listing.store, names[0]).schema_arrow):
            return "huggingface"
        kinds = {**dict.fromkeys(TABLES, "manifest"), **dict.fromkeys(SHARDS, "webdataset")}
        return kinds.get(ending, "folder")
    if any(name in listing.files for name in NAMES):
        return "manifest"
    only_tables = listing.ending((".parquet",)) and not listing.ending(VIDEOS + IMAGES + SHARDS)
    if only_tables or any(PurePosixPath(name).name in METADATA for name in names):
        return "huggingface"
    if listing.ending((".arrow",)) and not listing.ending(VIDEOS + IMAGES + SHARDS):
        raise SourceError(
            f"{listing.store.url!r} holds Arrow files, as `save_to_disk` writes them, which cannot "
            "be read in part; write them anew with `to_parquet`"
        )
    if not listing.ending(SHARDS):
        return "folder"
    if listing.ending(VIDEOS):
        raise SourceError(
            f"{listing.store.url!r} holds videos and .tar shards; "
            "set source.format to 'folder' or 'webdataset'"
        )
    return "webdataset"


def read_media(record: Record, rows: ParquetRows | None = None) -> Path | bytes:
    """Return the path of a video that is a local file, otherwise its bytes.

    Check `record.size_bytes` first where memory matters.

    Args:
        record: the video.
        rows: reads those that lie in tables; one that is kept holds the last piece that was read.

    Raises:
        SourceError: it is gone, or is not what was listed.
    """
    store = open_store(record.url)
    try:
        stat = store.stat(record.key)
        if identify(stat, record.offset, record.size_bytes, row=record.row) != record.identity:
            raise SourceError(f"{record.id!r} in {record.url!r} has changed since it was listed")
        if record.row is not None:
            return (rows or ParquetRows()).read(store, record)
        path = store.local_path(record.key)
        if path is not None and record.offset is None:
            return path
        begin = record.offset or 0
        return store.read(record.key, start=begin, end=begin + record.size_bytes)
    except MissingKeyError as error:
        raise SourceError(f"{record.id!r} is gone since it was listed: {error}") from None


def source_fingerprint(records: Iterable[Record]) -> str:
    """Return the SHA-256 over id, identity and caption of every record, in the order of ids."""
    lines = sorted(
        json.dumps([record.id, record.identity, record.caption], ensure_ascii=True)
        for record in records
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
