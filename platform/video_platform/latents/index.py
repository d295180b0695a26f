"""The table of a snapshot: a row a sample, with the place of each of its tensors.

The rows are Arrow files of `ROWS` rows each, which are mapped and not read: what is not used takes
no memory. Columns: id, bucket, caption, program (JSON), and for each tensor a struct of shard (a
number that `shards` turns into a key from the cache's root), offset, length, crc32 and kind (its
type and shape, `bfloat16 16x5x32x32`); the tensors are `mean` and `logvar`, `text/<encoder>` for
each encoder, and `clip/<layer>/<tensor>` for each further layer.

A file is checked against its hash when a process first touches it. On S3 it is fetched then, once
a machine where there is a disk cache.
"""

import bisect
import dataclasses
import functools
import hashlib
import io
import itertools
import mmap
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from video_platform.errors import CorruptCacheError
from video_platform.latents.records import TensorRecord
from video_platform.storage import Store

ROWS = 1 << 18
"""Samples in a file of rows."""

KIND = pa.dictionary(pa.int32(), pa.string())
PLACE = pa.struct(
    [
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("crc32", pa.uint32()),
        ("kind", KIND),
    ]
)
"""Where a tensor lies."""
NUMBERS = ("shard", "offset", "length", "crc32")
"""The fields of a place that are plain numbers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexFile:
    """One file of a snapshot, named by its content."""

    sha256: str
    """Hash of its bytes."""
    size_bytes: int
    """Their number."""
    rows: int
    """Rows of its table."""

    @property
    def key(self) -> str:
        """Its place in the cache."""
        return f"snapshots/data/{self.sha256[:16]}.arrow"


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndexFiles:
    """All files of a snapshot."""

    rows: tuple[IndexFile, ...]
    """The samples, in order."""
    shards: IndexFile
    """The keys of the shards, by number."""
    units: IndexFile
    """What the commits said, for the next snapshot; see `gathered.UNITS`."""
    rest: IndexFile
    """Where tensors lie of samples that are no rows, for the next snapshot; see `gathered.REST`."""

    @property
    def all(self) -> tuple[IndexFile, ...]:
        """Every file."""
        return (*self.rows, self.shards, self.units, self.rest)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "IndexFiles":
        """Read what `dataclasses.asdict` made."""
        return cls(
            rows=tuple(IndexFile(**file) for file in tree["rows"]),
            shards=IndexFile(**tree["shards"]),
            units=IndexFile(**tree["units"]),
            rest=IndexFile(**tree["rest"]),
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
    tensors: Mapping[str, TensorRecord]
    """Where its tensors lie, by column."""

    @property
    def mean(self) -> TensorRecord:
        """Mean of its latents."""
        return self.tensors["mean"]

    @property
    def logvar(self) -> TensorRecord:
        """Their log-variance."""
        return self.tensors["logvar"]

    @property
    def text(self) -> dict[str, TensorRecord]:
        """Its caption's embedding, by encoder."""
        texts = (name for name in self.tensors if name.startswith("text/"))
        return {name.removeprefix("text/"): self.tensors[name] for name in texts}

    @property
    def layers(self) -> dict[str, dict[str, TensorRecord]]:
        """What further layers hold of it, by layer and tensor."""
        layers: dict[str, dict[str, TensorRecord]] = {}
        for name, record in self.tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "clip":
                layer, _, tensor = rest.partition("/")
                layers.setdefault(layer, {})[tensor] = record
        return layers


def write_table(root: Store, table: pa.Table, *, named: Set[str] = frozenset()) -> IndexFile:
    """Store a table under the hash of its bytes.

    Args:
        root: the cache.
        table: the table.
        named: keys that a snapshot names. A file that none does may be cleared away at any time:
            where one has the name already, the table gets another.
    """
    file, data = _write_bytes(table)
    while not root.put_if_absent(file.key, data):
        if file.key in named:
            if root.read(file.key) != data:
                root.put(file.key, data)  # the name says what belongs there
            break
        file, data = _write_bytes(table.replace_schema_metadata({"salt": secrets.token_hex(8)}))
    return file


def _write_bytes(table: pa.Table) -> tuple[IndexFile, bytes]:
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    data = buffer.getvalue()
    name = hashlib.sha256(data).hexdigest()
    return IndexFile(sha256=name, size_bytes=len(data), rows=table.num_rows), data


def kind_of(shape: Sequence[int], dtype: str) -> str:
    """Spell type and shape of a tensor."""
    return f"{dtype} {'x'.join(map(str, shape))}"


@functools.lru_cache(maxsize=1 << 16)
def parse_kind(kind: str) -> tuple[tuple[int, ...], str]:
    """Return shape and type of a tensor from their spelling."""
    dtype, _, shape = kind.partition(" ")
    return tuple(map(int, shape.split("x"))) if shape else (), dtype


FetchFile = Callable[[IndexFile, bool], Any]
"""Returns the bytes of a file, mapped or read, not yet checked; a second time if they were wrong,
which may be the fault of a local copy."""


class Index:
    """Rows of a snapshot by position; may be used by several threads."""

    def __init__(self, files: IndexFiles, fetch: FetchFile) -> None:
        self._files = files
        self._fetch = fetch
        self._parts: dict[int, _Part] = {}
        self._sound: set[IndexFile] = set()
        self._lock = threading.Lock()
        self._shards: pa.Array | None = None
        self._ends = list(itertools.accumulate(file.rows for file in files.rows))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, place: int) -> Row:
        """Return one row.

        Raises:
            CorruptCacheError: its file is damaged.
        """
        number = bisect.bisect_right(self._ends, place)
        row = place - (self._ends[number] - self._files.rows[number].rows)
        part, shards = self._part(number), self.shards
        tensors = {}
        for name, column in part.places.items():
            shard, offset, length, crc32 = column.at(row)
            if length >= 0:
                shape, dtype = column.kinds[column.kind.item(row)]
                tensors[name] = TensorRecord(
                    key=shards[shard].as_py(),
                    offset=offset,
                    length=length,
                    crc32=crc32,
                    shape=shape,
                    dtype=dtype,
                )
        text = {name: column[row].as_py() for name, column in part.texts.items()}
        return Row(**text, tensors=tensors)

    @property
    def shards(self) -> pa.Array:
        """The keys of the shards from the cache's root, by number."""
        if self._shards is None:
            self._shards = whole(self._read(self._files.shards)["key"])
        return self._shards

    def units(self) -> pa.Table:
        """Return what the commits said."""
        return self._read(self._files.units)

    def rest(self) -> pa.Table:
        """Return where tensors lie of samples that are no rows."""
        return self._read(self._files.rest)

    def check(self) -> None:
        """Check every file against its hash.

        Raises:
            CorruptCacheError: one is damaged or missing.
        """
        for file in self._files.all:
            self._read(file)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        names: list[str] = next(self.parts())[1].column_names
        return names

    def parts(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield the rows in order, a file a table, each with the place of its first row."""
        start = 0
        for file in self._files.rows:
            yield start, self._read(file)
            start += file.rows

    def table(self) -> pa.Table:
        """Return all rows; those of a local file are mapped."""
        return pa.concat_tables([table for _, table in self.parts()])

    def column(self, name: str) -> list[Any]:
        """Return one column of strings."""
        return [value for _, table in self.parts() for value in table[name].to_pylist()]

    def _part(self, number: int) -> "_Part":
        found = self._parts.get(number)
        if found is None:
            with self._lock:
                if number not in self._parts:
                    self._parts[number] = _Part(self._read(self._files.rows[number]))
                found = self._parts[number]
        return found

    def _read(self, file: IndexFile) -> pa.Table:
        """Return the table of a file, which is checked the first time."""
        table = read_table(file, self._fetch, check=file not in self._sound)
        self._sound.add(file)
        return table


def read_table(file: IndexFile, fetch: FetchFile, *, check: bool) -> pa.Table:
    """Return the table of a file.

    Args:
        file: which.
        fetch: brings its bytes.
        check: whether to compare them with their hash.

    Raises:
        CorruptCacheError: it is not what was written.
    """
    for again in (False, True):
        data = fetch(file, again)
        if not check or hashlib.sha256(data).hexdigest() == file.sha256:
            break
    else:
        raise CorruptCacheError(f"{file.key} is damaged: its content does not match its checksum")
    if isinstance(data, mmap.mmap):
        data.madvise(mmap.MADV_DONTNEED)  # what was only looked at need not stay in memory
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(data))).read_all()


def places(table: pa.Table) -> dict[str, pa.Array]:
    """Return the columns of a table that say where tensors lie."""
    names = [field.name for field in table.schema if field.type == PLACE]
    return {name: whole(table[name]) for name in names}


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array; no copy is made of one that is whole."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


class PlaceColumn:
    """The places of one tensor, as arrays over rows."""

    def __init__(self, column: pa.Array) -> None:
        self.numbers: list[NDArray[Any]] = [
            column.field(name).to_numpy(zero_copy_only=True) for name in NUMBERS
        ]
        kind = column.field("kind")
        self.kinds = [parse_kind(name) for name in kind.dictionary.to_pylist()]
        self.kind: NDArray[np.int32] = kind.indices.to_numpy(zero_copy_only=True)

    def at(self, row: int) -> tuple[int, int, int, int]:
        """Return shard, offset, length and CRC of one row; a length below 0 is no tensor."""
        shard, offset, length, crc32 = self.numbers
        return shard.item(row), offset.item(row), length.item(row), crc32.item(row)


class _Part:
    """One file of rows."""

    def __init__(self, table: pa.Table) -> None:
        columns = {name: whole(table[name]) for name in table.column_names}
        self.places = {n: PlaceColumn(c) for n, c in columns.items() if c.type == PLACE}
        self.texts = {n: c for n, c in columns.items() if c.type != PLACE}
