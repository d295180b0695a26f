"""From the files of a source to its clips, with a table of what became of every piece.

    selection = select_clips(root, shelf.walk(records), config, policy)
    selection.records    # the clips
    selection.rows       # how many went to which bucket, and how many were left out and why

The table of all pieces, a row each, is kept in the cache as `clips/<hash>.parquet`.
"""

import dataclasses
import hashlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from video_platform.clips.config import ClipsConfig
from video_platform.clips.planning import Planned, plan_clips
from video_platform.clips.report import Row, Totals
from video_platform.clips.scans import Finding
from video_platform.datasets.record import Record
from video_platform.storage import Store
from video_platform.video.policy import PixelPolicy

ROWS = 1 << 16
"""Pieces in a row group, and in memory at one time while the table is written."""

SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("file", pa.large_string()),
        ("start_s", pa.float64()),
        ("seconds", pa.float64()),
        ("shown_s", pa.float64()),
        ("repeated_s", pa.float64()),
        ("cropped", pa.float64()),
        ("bucket", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""The columns of the table; `reason` is empty for what was taken."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """The clips of a source."""

    records: Sequence[Record]
    """Each with its file, start and size, sorted by id."""
    rows: Sequence[Row]
    """What went where."""
    rejects: Mapping[str, int]
    """Pieces that were left out, by reason."""
    table: str
    """The key of the table of all pieces."""


def select_clips(
    root: Store,
    scanned: Iterable[tuple[Record, Finding]],
    config: ClipsConfig,
    policy: PixelPolicy,
) -> Selection:
    """Plan the clips of a source and keep the plan.

    Args:
        root: the cache.
        scanned: the files in the order of their ids, with what a scan found.
        config: how they are cut, which sizes there are, what is refused.
        policy: how clips will be decoded.
    """
    records: list[Record] = []
    totals = Totals(config.sizes(policy))

    def note(pieces: Iterable[Planned]) -> Iterator[Planned]:
        for planned in pieces:
            totals.add(planned)
            if not planned.reason:
                records.append(planned.record)
            yield planned

    table = _keep(root, note(plan_clips(scanned, config, policy)))
    records.sort(key=lambda record: record.id)
    return Selection(records=records, rows=totals.rows(), rejects=totals.rejects, table=table)


def _keep(root: Store, pieces: Iterator[Planned]) -> str:
    """Store the table of all pieces, and return its key."""
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        with pq.ParquetWriter(file.name, SCHEMA, compression="zstd") as writer:
            while part := list(itertools.islice(pieces, ROWS)):
                writer.write_batch(
                    pa.RecordBatch.from_pylist([item.to_json() for item in part], SCHEMA)
                )
        with Path(file.name).open("rb") as written:
            key = f"clips/{hashlib.file_digest(written, 'sha256').hexdigest()[:16]}.parquet"
        root.put_file_if_absent(key, Path(file.name))
    return key
