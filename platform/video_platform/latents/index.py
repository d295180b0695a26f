"""The Parquet table of a snapshot: a row a sample, with the place of each of its tensors.

Columns: id, bucket, caption, program (JSON), mean, logvar, and `text/<encoder>` for each encoder;
the last three kinds are structs of key (from the cache's root), offset, length, crc32, shape and
dtype.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from video_platform.latents.records import TensorRecord

PLACE = pa.struct(
    [
        ("key", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("crc32", pa.uint32()),
        ("shape", pa.list_(pa.int32())),
        ("dtype", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One sample of a snapshot; the keys of its tensors are relative to the cache's root."""

    id: str
    """The clip's id."""
    bucket: str
    """Shape of its latents."""
    caption: str
    """Its caption; empty when the source has none."""
    program: str | None
    """Ground truth as JSON."""
    mean: TensorRecord
    """Mean of its latents."""
    logvar: TensorRecord
    """Their log-variance."""
    text: Mapping[str, TensorRecord]
    """Its caption's embedding, by encoder."""


def write_index(rows: Sequence[Row], encoders: Sequence[str]) -> bytes:
    """Write rows as a Parquet file."""
    plain = ("id", "bucket", "caption", "program")
    columns: dict[str, Any] = {
        name: pa.array([getattr(row, name) for row in rows], pa.string()) for name in plain
    }
    for name in ("mean", "logvar"):
        columns[name] = _places([getattr(row, name) for row in rows])
    for name in encoders:
        columns[f"text/{name}"] = _places([row.text[name] for row in rows])
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


class Index:
    """Rows of a snapshot by position; only the rows that are asked for become Python objects."""

    def __init__(self, data: bytes, encoders: Sequence[str]) -> None:
        self._table = pq.read_table(io.BytesIO(data)).combine_chunks()
        self._encoders = tuple(encoders)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, place: int) -> Row:
        (tree,) = self._table.slice(place, 1).to_pylist()
        text = {name: TensorRecord.from_json(tree[f"text/{name}"]) for name in self._encoders}
        return Row(
            id=tree["id"],
            bucket=tree["bucket"],
            caption=tree["caption"],
            program=tree["program"],
            mean=TensorRecord.from_json(tree["mean"]),
            logvar=TensorRecord.from_json(tree["logvar"]),
            text=text,
        )

    def column(self, name: str) -> list[Any]:
        """Return one column of strings."""
        values: list[Any] = self._table[name].to_pylist()
        return values


def _places(records: Sequence[TensorRecord]) -> Any:
    return pa.array([dataclasses.asdict(record) for record in records], PLACE)
