"""What a commit says: where each tensor of each sample lies, its checksum, and what was refused.

Keys are relative to the layer. A commit names every shard that its entries use, also those that an
earlier commit wrote, so that no shard in use ever looks forgotten.

A commit is stored as sealed JSON that is laid out by column, a list a field and not an object a
sample: of ten million samples it takes minutes, and not hours, to read every commit.

    {"unit": ..., "id": [...], "source": [...], "rejects": [{...}], "shards": {key: {...}},
     "keys": [...], "kinds": [[shape, dtype], ...],                      what the numbers below name
     "tensors": {name: {"sample": [...], "key": [...], "kind": [...], "offset": [...],
                        "length": [...], "crc32": [...]}},
     "decoder": [...], "decoders": [...],                          what the numbers before name
     "channels": [...], "channel_sum": "...", "channel_square_sum": "..."}

`sample` counts within `id`; `channels` says how many of the sums are each sample's; the sums are
little-endian float64 in Base64.
"""

import base64
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from video_platform.errors import CorruptCacheError
from video_platform.latents.sealed import seal, unseal


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorRecord:
    """One tensor inside a shard."""

    key: str
    """The shard."""
    offset: int
    """First byte in the shard."""
    length: int
    """Number of bytes."""
    crc32: int
    """`zlib.crc32` of those bytes."""
    shape: tuple[int, ...]
    """Its shape: (C, T, H, W) in the latent layer, (L, D) in a text layer."""
    dtype: str
    """`float32` or `bfloat16`."""

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "TensorRecord":
        """Read what `dataclasses.asdict` made."""
        return cls(**{**tree, "shape": tuple(tree["shape"])})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One sample of a layer that is stored."""

    id: str
    """The clip's id, or the SHA-256 of the caption."""
    source: str
    """Hash of what it was made from."""
    tensors: Mapping[str, TensorRecord]
    """By name: `mean` and `logvar` in the latent layer, `embedding` in a text layer."""
    channel_sum: tuple[float, ...] = ()
    """Sum of the means over time and space, a number a channel; empty in a text layer."""
    channel_square_sum: tuple[float, ...] = ()
    """Sum of their squares."""
    decoder: str = ""
    """What made its pictures and why, `pyav: the faster`; empty where nobody wrote it down."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reject:
    """One sample that can never be stored; it is done, and is not tried again."""

    id: str
    """The clip's id."""
    source: str
    """Hash of what was refused."""
    reason: str
    """The typed reason, such as `corrupt`."""
    error: str
    """Class and message of the error."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One safetensors file."""

    size_bytes: int
    """Its size."""
    sha256: str
    """Of the whole file; the name has its first 16 digits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commit:
    """A unit that is done."""

    unit: str
    """The unit's id."""
    entries: tuple[Entry, ...]
    """What is stored, sorted by id."""
    rejects: tuple[Reject, ...]
    """What was refused, sorted by id."""
    shards: Mapping[str, Shard]
    """Every shard that the entries use, by key."""

    def to_bytes(self) -> bytes:
        """Return the content of the commit's file."""
        keys, kinds, decoders = _Numbers(), _Numbers(), _Numbers()
        counts = [len(entry.channel_sum) for entry in self.entries]
        if counts != [len(entry.channel_square_sum) for entry in self.entries]:
            raise ValueError(f"unit {self.unit}: a sample has other sums than squares")
        return seal(
            {
                "unit": self.unit,
                "id": [entry.id for entry in self.entries],
                "source": [entry.source for entry in self.entries],
                "tensors": {
                    name: _tensor_columns(self.entries, name, keys=keys, kinds=kinds)
                    for name in sorted({name for entry in self.entries for name in entry.tensors})
                },
                "keys": list(keys),
                "kinds": [[list(shape), dtype] for shape, dtype in kinds],
                "decoder": [decoders.of(entry.decoder) for entry in self.entries],
                "decoders": list(decoders),
                "channels": counts,
                "channel_sum": _pack(entry.channel_sum for entry in self.entries),
                "channel_square_sum": _pack(entry.channel_square_sum for entry in self.entries),
                "rejects": [dataclasses.asdict(reject) for reject in self.rejects],
                "shards": {key: dataclasses.asdict(shard) for key, shard in self.shards.items()},
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Commit":
        """Read what `to_bytes` wrote.

        Args:
            data: the content of the commit's file.
            where: what an error calls it.

        Raises:
            CorruptCacheError: it is damaged.
        """
        tree = read_columns(data, where)
        ends = list(itertools.accumulate(tree["channels"], initial=0))
        sums, squares = (unpack_sums(tree[name]).tolist() for name in SUMS)
        tensors: list[dict[str, TensorRecord]] = [{} for _ in tree["id"]]
        for name, columns in tree["tensors"].items():
            for sample, record in _tensor_records(columns, tree["keys"], tree["kinds"]):
                tensors[sample][name] = record
        return cls(
            unit=tree["unit"],
            entries=tuple(
                Entry(
                    id=name,
                    source=source,
                    tensors=tensors[place],
                    channel_sum=tuple(sums[ends[place] : ends[place + 1]]),
                    channel_square_sum=tuple(squares[ends[place] : ends[place + 1]]),
                    decoder=tree["decoders"][tree["decoder"][place]] if "decoder" in tree else "",
                )
                for place, (name, source) in enumerate(zip(tree["id"], tree["source"], strict=True))
            ),
            rejects=tuple(Reject(**reject) for reject in tree["rejects"]),
            shards={key: Shard(**shard) for key, shard in tree["shards"].items()},
        )


SUMS = ("channel_sum", "channel_square_sum")
"""The columns that `unpack_sums` reads."""


def read_columns(data: bytes, where: str) -> dict[str, Any]:
    """Return a commit as it is stored, by column, for whoever reads very many of them.

    Raises:
        CorruptCacheError: it is damaged.
    """
    tree = unseal(data, where)
    if "kinds" not in tree:
        raise CorruptCacheError(f"{where} is no commit that this version reads; fill a new cache")
    return tree


def unpack_sums(text: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the numbers of a column of sums, those of all samples in a row."""
    return np.frombuffer(base64.b64decode(text), dtype="<f8")


class _Numbers(dict[Any, int]):
    """Numbers values in the order in which they are first met."""

    def of(self, value: Any) -> int:
        return self.setdefault(value, len(self))


def _tensor_columns(
    entries: Sequence[Entry], name: str, *, keys: _Numbers, kinds: _Numbers
) -> dict[str, list[int]]:
    """Return where the tensors of one name lie."""
    found = [(i, e.tensors[name]) for i, e in enumerate(entries) if name in e.tensors]
    return {
        "sample": [sample for sample, _ in found],
        "key": [keys.of(record.key) for _, record in found],
        "kind": [kinds.of((record.shape, record.dtype)) for _, record in found],
        "offset": [record.offset for _, record in found],
        "length": [record.length for _, record in found],
        "crc32": [record.crc32 for _, record in found],
    }


def _tensor_records(
    columns: Mapping[str, Sequence[int]], keys: Sequence[str], kinds: Sequence[Any]
) -> Iterable[tuple[int, TensorRecord]]:
    """Yield sample and record of every tensor of one name."""
    shapes = [(tuple(shape), dtype) for shape, dtype in kinds]
    names = ("sample", "key", "kind", "offset", "length", "crc32")
    for sample, key, kind, offset, length, crc32 in zip(
        *(columns[name] for name in names), strict=True
    ):
        shape, dtype = shapes[kind]
        yield (
            sample,
            TensorRecord(
                key=keys[key],
                offset=offset,
                length=length,
                crc32=crc32,
                shape=shape,
                dtype=dtype,
            ),
        )


def _pack(rows: Iterable[Sequence[float]]) -> str:
    numbers = np.fromiter(itertools.chain.from_iterable(rows), dtype="<f8")
    return base64.b64encode(numbers.tobytes()).decode()
