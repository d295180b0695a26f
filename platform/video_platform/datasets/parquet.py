"""Videos inside Parquet tables: a column of `{bytes, path}` structs, or of bytes.

    rows = ParquetRows()
    data = rows.read(store, record)

Columns that are not asked for are not read. A video costs a read of its row group, which is kept
for the rows after it. Nothing in a table is executed or unpickled.
"""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from video_platform.datasets.record import Record
from video_platform.errors import SourceError
from video_platform.storage import Store

PREFERRED = ("video", "mp4", "webm", "clip", "image", "png", "jpg", "jpeg", "webp")
"""Columns that are taken first where several could hold the media."""


class ParquetRows:
    """Reads media out of tables; the last table stays open, and its last row group in memory."""

    def __init__(self) -> None:
        self._opened: tuple[str, str, str] | None = None
        self._table: pq.ParquetFile = None
        self._group: int | None = None
        self._values: pa.ChunkedArray = None

    def read(self, store: Store, record: Record) -> bytes:
        """Return the media in the row of a record.

        Raises:
            SourceError: the table holds nothing there, or is damaged.
        """
        assert record.row is not None, "it is a row of a table"  # noqa: S101
        where = f"{store.url}/{record.key}"
        wanted = store.url, record.key, record.identity.rpartition("#")[0]
        if wanted != self._opened:
            self._opened = self._group = self._values = None
            self._table = open_table(store, record.key)
            self._opened = wanted
        group, row = _find(self._table, record.row, where)
        if group != self._group:
            self._group = self._values = None  # the old one goes before the new one comes
            self._values = _read(self._table, group, where)
            self._group = group
        value = self._values[row].as_py()
        data: bytes | None = value["bytes"] if isinstance(value, dict) else value
        if data is None:
            raise SourceError(f"{where}, row {record.row} holds no media")
        return data


class _Ranged(io.RawIOBase):
    """A file in a store as a seekable one: each read is one ranged request."""

    def __init__(self, store: Store, key: str) -> None:
        super().__init__()
        self._store, self._key = store, key
        self._size_bytes = store.stat(key).size_bytes
        self._position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._size_bytes)[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size_bytes if size < 0 else min(self._size_bytes, self._position + size)
        data = self._store.read(self._key, start=self._position, end=end)
        self._position += len(data)
        return data


def open_table(store: Store, key: str) -> pq.ParquetFile:
    """Open a table of which only the footer is read for now.

    Raises:
        SourceError: it is no Parquet file.
    """
    path = store.local_path(key)
    try:
        return pq.ParquetFile(_Ranged(store, key) if path is None else str(path))
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{store.url}/{key} is not parquet: {_line(error)}") from None


def media_column(schema: pa.Schema) -> str | None:
    """Return the column that holds media: the declared video or image, else one of such a type."""
    declared = _declared(schema)
    found = [field.name for field in schema if field.name in declared or _holds_media(field.type)]
    order = {name: place for place, name in enumerate(PREFERRED)}
    return min(
        found,
        key=lambda name: (declared.get(name) != "Video", order.get(name, len(order))),
        default=None,
    )


def _declared(schema: pa.Schema) -> dict[str, str]:
    """Return the columns that `datasets` declared to be videos or images."""
    try:
        tree = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = tree.get("info", {}).get("features", {})
        kinds = {name: feature.get("_type") for name, feature in features.items()}
    except (ValueError, AttributeError):
        return {}
    return {name: kind for name, kind in kinds.items() if kind in ("Video", "Image")}


def _holds_media(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        names = {kind.field(place).name for place in range(kind.num_fields)}
        return {"bytes", "path"} <= names and _is_binary(kind.field("bytes").type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _find(table: pq.ParquetFile, row: int, where: str) -> tuple[int, int]:
    """Return the row group of a row and its place in it."""
    before = 0
    for group in range(table.num_row_groups):
        count = table.metadata.row_group(group).num_rows
        if row < before + count:
            return group, row - before
        before += count
    raise SourceError(f"{where} has {before} rows, and no row {row}")


def _read(table: pq.ParquetFile, group: int, where: str) -> pa.ChunkedArray:
    """Read the media of a row group."""
    name = media_column(table.schema_arrow)
    if name is None:
        raise SourceError(f"{where} has no column of media: {table.schema_arrow.names}")
    try:
        column: pa.ChunkedArray = table.read_row_group(group, columns=[name])[name]
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{where} is damaged: {_line(error)}") from None
    return column


def _line(error: Any) -> str:
    return " ".join(str(error).split())
