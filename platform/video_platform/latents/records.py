"""What a commit says: where each tensor of each sample lies, its checksum, and what was refused.

Keys are relative to the layer. A commit names every shard that its entries use, also those that an
earlier commit wrote, so that no shard in use ever looks forgotten.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


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

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "Entry":
        """Read what `dataclasses.asdict` made."""
        return cls(
            id=tree["id"],
            source=tree["source"],
            tensors={name: TensorRecord.from_json(t) for name, t in tree["tensors"].items()},
            channel_sum=tuple(tree["channel_sum"]),
            channel_square_sum=tuple(tree["channel_square_sum"]),
        )


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

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "Commit":
        """Read what `dataclasses.asdict` made."""
        return cls(
            unit=tree["unit"],
            entries=tuple(Entry.from_json(entry) for entry in tree["entries"]),
            rejects=tuple(Reject(**reject) for reject in tree["rejects"]),
            shards={key: Shard(**shard) for key, shard in tree["shards"].items()},
        )
