"""A Hugging Face dataset: media beside metadata files, or Parquet shards that hold the media.

train/metadata.jsonl    {"file_name": "dog.mp4", "text": "a dog walks"}
train/dog.mp4

data/train-00000-of-00002.parquet     columns: video {bytes, path}, or its bytes alone; text

Only files are read: no script of a dataset is run, and nothing is fetched from a hub. The id of a
video in a shard is the shard and its row.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from video_platform.datasets.config import SourceConfig
from video_platform.datasets.folder import describe, key_of
from video_platform.datasets.listing import TABLES, Listing
from video_platform.datasets.manifest import find_video
from video_platform.datasets.parquet import media_column, open_table
from video_platform.datasets.record import Record, identify
from video_platform.datasets.tables import Row, clean_caption, read_rows, refuse_missing
from video_platform.errors import SourceError

METADATA = tuple(f"metadata{ending}" for ending in TABLES)


def list_dataset(listing: Listing, config: SourceConfig) -> list[Record]:
    """List the videos that metadata files or shards name or hold."""
    metadata = [key for key in sorted(listing.files) if PurePosixPath(key).name in METADATA]
    if metadata:
        return _list_files(listing, config, metadata)
    shards = listing.ending((".parquet",))
    if not shards:
        raise SourceError(
            f"there is no {' or '.join(METADATA)} and no .parquet file in {listing.store.url!r}"
        )
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda key: _rows_of(listing, key, config), shards)
        rows = [row for shard in found for row in shard]
    refuse_missing([row for row in rows if isinstance(row, Row)])
    return [row for row in rows if isinstance(row, Record)]


def _list_files(listing: Listing, config: SourceConfig, metadata: list[str]) -> list[Record]:
    """List the videos of a folder, with what the metadata files say of them."""
    rows: dict[str, Row] = {}
    for name in metadata:
        folder = PurePosixPath(name).parent.as_posix()
        for row in read_rows(listing.store, name, video="file_name", caption=config.caption_column):
            key = key_of(row, folder)
            if key in rows:
                raise SourceError(f"{row.where}: {row.video!r} is named already")
            rows[key] = row
    refuse_missing([row for key, row in rows.items() if key not in listing.files])
    return describe(listing, sorted({*rows, *listing.media(config)}), rows)


def _rows_of(listing: Listing, key: str, config: SourceConfig) -> list[Record | Row]:
    try:
        return list(_list_shard(listing, key, config))
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{listing.store.url}/{key} is damaged: {reason}") from None


def _list_shard(listing: Listing, key: str, config: SourceConfig) -> Iterator[Record | Row]:
    """List the rows of a shard; a row whose video is not there is given back."""
    where = f"{listing.store.url}/{key}"
    table = open_table(listing.store, key)
    media = media_column(table.schema_arrow)
    if media is None:
        raise SourceError(
            f"{where} has no column of bytes or of {{bytes, path}}; its columns: "
            f"{', '.join(table.schema_arrow.names)}. For a table of paths set source.format to "
            "'manifest'"
        )
    wanted = [config.caption_column] if config.caption_column else ["caption", "text", "prompt"]
    caption = next((name for name in wanted if name in table.schema_arrow.names), None)
    if config.caption_column and caption is None:
        raise SourceError(
            f"{where} has no column {config.caption_column!r}; set source.caption_column to one "
            f"of: {', '.join(table.schema_arrow.names)}"
        )
    number = 0
    for group in range(table.num_row_groups):
        inside, paths = _places(table, group, media)
        texts = _column(table, group, caption)
        size_bytes = _size_bytes(table, group, media)
        for place in range(table.metadata.row_group(group).num_rows):
            text = clean_caption(texts[place], f"{where}, row {number}") if caption else None
            if inside[place]:
                yield _embedded(listing, key, number, size_bytes=size_bytes, caption=text)
            else:
                row = Row.named(f"{where}, row {number}", paths[place], caption=text)
                yield find_video(row, listing)
            number += 1


def _embedded(
    listing: Listing, key: str, row: int, *, size_bytes: int, caption: str | None
) -> Record:
    return Record(
        id=f"{key}/{row:08d}",  # so that the order of ids is that of rows
        url=listing.store.url,
        key=key,
        row=row,
        size_bytes=size_bytes,
        identity=identify(listing.files[key], row=row),
        caption=caption,
    )


def _places(table: pq.ParquetFile, group: int, media: str) -> tuple[list[bool], list[str | None]]:
    """Say of each row of a group whether it holds its media, and which path it names."""
    count = table.metadata.row_group(group).num_rows
    if not pa.types.is_struct(table.schema_arrow.field(media).type):
        return [True] * count, [None] * count
    paths = table.read_row_group(group, columns=[f"{media}.path"])[media].to_pylist()
    named = [path and path["path"] for path in paths]
    missing = _chunk(table, group, f"{media}.bytes").statistics
    if missing is None or not missing.has_null_count or missing.null_count == 0:
        return [True] * count, named
    column = table.read_row_group(group, columns=[f"{media}.bytes"])[media]
    inside: list[bool] = pc.struct_field(column, "bytes").is_valid().to_pylist()
    return inside, named


def _column(table: pq.ParquetFile, group: int, name: str | None) -> list[Any]:
    if name is None:
        return []
    values: list[Any] = table.read_row_group(group, columns=[name])[name].to_pylist()
    return values


def _size_bytes(table: pq.ParquetFile, group: int, media: str) -> int:
    """Return how many bytes are read for one video."""
    struct = pa.types.is_struct(table.schema_arrow.field(media).type)
    chunk = _chunk(table, group, f"{media}.bytes" if struct else media)
    return int(chunk.total_uncompressed_size)


def _chunk(table: pq.ParquetFile, group: int, path: str) -> Any:
    """Return what the footer says of one column in one row group."""
    row_group = table.metadata.row_group(group)
    return next(
        chunk
        for chunk in map(row_group.column, range(row_group.num_columns))
        if chunk.path_in_schema == path
    )
