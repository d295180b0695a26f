"""The source as it was when the cache was filled, and what a snapshot is to join.

A source manifest is a Parquet table of records, sorted by id and stored under the hash of its
bytes. A plan names a manifest and the layers made of it; from these two every unit follows, so that
a snapshot never depends on what else lies in the cache.
"""

import dataclasses
import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from video_platform.datasets.record import Record
from video_platform.errors import CacheError, CorruptCacheError
from video_platform.latents.sealed import canonical_json, digest, seal, unseal
from video_platform.latents.units import Member, Unit, partition
from video_platform.storage import Store

ROWS = 1 << 16
"""Records in a row group, and in memory at one time while a manifest is written or read."""

MADE_FROM = "made_from"
"""The one column that is no field of a record: the hash of where its pixels come from."""

_PLAIN = {str: pa.large_string(), int: pa.int64(), float: pa.float64()}
_TYPES = {
    field.name: next((_PLAIN[t] for t in _PLAIN if field.type in (t, t | None)), None)
    for field in dataclasses.fields(Record)
}
"""The Arrow type of each field of a record; None is stored as JSON."""
SCHEMA = pa.schema(
    [(name, type_ or pa.large_string()) for name, type_ in {**_TYPES, MADE_FROM: None}.items()]
)
"""The columns of a manifest."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Which source and which layers belong together."""

    source: str
    """Hash of the source manifest, 16 digits."""
    latent: str
    """Folder of the latent layer."""
    text: Mapping[str, str]
    """Folder of the text layer of each encoder, by name."""
    unit_size: int
    """Most clips in a unit."""
    text_unit_size: int
    """Most captions in a unit."""
    clip: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Folder of each further layer that holds something of every clip, by name: codes, control
    maps, masks, image embeddings."""

    @property
    def id(self) -> str:
        """Hash of the plan, 16 digits."""
        return digest(dataclasses.asdict(self))[:16]

    def save(self, root: Store) -> None:
        """Store the plan; a plan that is there already becomes the newest again."""
        root.put(f"plans/{self.id}.json", seal(dataclasses.asdict(self)))


def load_plan(root: Store, plan_id: str | None = None) -> Plan:
    """Read a plan; None is the one that `precompute` used last.

    Raises:
        CacheError: there is no such plan.
    """
    plans = root.scan("plans")
    if plan_id is None:
        key = max(plans, key=lambda key: (plans[key].modified_s, key), default=None)
    else:
        key = f"plans/{plan_id}.json"
    if key is None or key not in plans:
        known = ", ".join(sorted(key.removeprefix("plans/") for key in plans)) or "none"
        raise CacheError(f"{root.url} has no plan {plan_id or ''}; known: {known}")
    tree = unseal(root.read(key), key)
    return Plan(**{f.name: tree[f.name] for f in dataclasses.fields(Plan) if f.name in tree})


def save_manifest(root: Store, records: Sequence[Record]) -> str:
    """Store the records of a source and return their hash, 16 digits."""
    rows = sorted(records, key=lambda record: record.id)
    parts = (rows[start : start + ROWS] for start in range(0, len(rows), ROWS))
    return save_manifest_rows(root, map(manifest_rows, parts))


def save_manifest_rows(root: Store, parts: Iterable[pa.RecordBatch]) -> str:
    """Store the records of a source, given as rows of `SCHEMA` sorted by id; see `manifest_rows`.

    However many there are, only one part is in memory.
    """
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        with pq.ParquetWriter(file.name, SCHEMA, compression="zstd") as writer:
            for part in parts:
                writer.write_batch(part)
        with Path(file.name).open("rb") as written:
            name = hashlib.file_digest(written, "sha256").hexdigest()[:16]
        root.put_file_if_absent(_key(name), Path(file.name))
    return name


def manifest_rows(records: Sequence[Record]) -> pa.RecordBatch:
    """Return records as rows of a manifest."""
    columns = [
        pa.array(
            [_cell(getattr(record, name), type_) for record in records], SCHEMA.field(name).type
        )
        for name, type_ in _TYPES.items()
    ]
    made_from = pa.array([_source(record) for record in records], SCHEMA.field(MADE_FROM).type)
    return pa.record_batch([*columns, made_from], schema=SCHEMA)


def load_manifest(root: Store, name: str) -> list[Record]:
    """Read the records of a stored source, sorted by id.

    Raises:
        CorruptCacheError: the manifest is not what was stored.
    """
    batches = open_manifest(root, name).iter_batches(ROWS)
    return list(itertools.chain.from_iterable(map(_records, batches)))


def open_manifest(root: Store, name: str) -> pq.ParquetFile:
    """Open a stored source, whose rows are `SCHEMA`'s, sorted by id.

    Raises:
        CorruptCacheError: the manifest is not what was stored.
    """
    key = _key(name)
    path = root.local_path(key)
    if path is None or not root.exists(key):
        data = root.read(key)
        found, file = hashlib.sha256(data), pa.BufferReader(data)
    else:
        with path.open("rb") as stored:
            found = hashlib.file_digest(stored, "sha256")
        file = str(path)
    if found.hexdigest()[:16] != name:
        raise CorruptCacheError(f"{key} is damaged: its content does not match its name")
    return pq.ParquetFile(file, memory_map=True)


def _key(name: str) -> str:
    return f"sources/{name}.parquet"


def _cell(value: Any, type_: pa.DataType | None) -> Any:
    """Return a field of a record as a manifest holds it."""
    return value if type_ is not None or value is None else canonical_json(value).decode()


def _records(batch: pa.RecordBatch) -> Iterator[Record]:
    """Yield the records of some rows."""
    for row in batch.drop_columns([MADE_FROM]).to_pylist():
        spelled = {
            name for name, type_ in _TYPES.items() if type_ is None and row[name] is not None
        }
        yield Record.from_json(row | {name: json.loads(row[name]) for name in spelled})


def latent_units(records: Sequence[Record], size: int) -> list[Unit]:
    """Split the clips of a source into units; captions play no part."""
    members = (Member(record.id, _source(record), record.file or "") for record in records)
    return partition(members, size)


def text_units(records: Sequence[Record], size: int) -> list[Unit]:
    """Split the captions of a source into units, each caption once and the empty one always."""
    return partition((Member(key, key) for key in captions(records)), size)


def captions(records: Sequence[Record]) -> dict[str, str]:
    """Return the captions of a source by their SHA-256, the empty one among them."""
    texts = {"", *(record.caption or "" for record in records)}
    return {caption_key(text): text for text in sorted(texts)}


def caption_key(caption: str | None) -> str:
    """Return the name of a caption in a text layer; a clip without one has the empty caption."""
    return hashlib.sha256((caption or "").encode()).hexdigest()


def _source(record: Record) -> str:
    """Hash where a clip's pixels come from; its id, caption and program play no part."""
    fields: dict[str, Any] = dataclasses.asdict(record)
    names = ("url", "key", "offset", "size_bytes", "identity", "start_s", "size")
    return digest({name: fields[name] for name in names})[:32]
