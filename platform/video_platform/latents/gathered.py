"""What very many commits of a layer say, as columns.

Numbers stand for names while a snapshot is made: of shards, and of types and shapes.

Legend: N samples, R rows of some of them.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from video_platform.latents.index import NUMBERS, kind_of
from video_platform.latents.membership import Rows
from video_platform.latents.records import SUMS, unpack_sums

TYPES = {
    "shard": np.int32,
    "offset": np.int64,
    "length": np.int64,
    "crc32": np.uint32,
    "kind": np.int32,
}
"""The columns of a `Place`."""

UNITS = pa.schema(
    [
        ("layer", pa.string()),
        ("unit", pa.string()),
        ("identity", pa.string()),
        ("sha256", pa.string()),
        ("samples", pa.int32()),
        ("rejects", pa.string()),
        ("values", pa.int64()),
        ("channel_sum", pa.list_(pa.float64())),
        ("channel_square_sum", pa.list_(pa.float64())),
    ]
)
"""What is kept of a commit: its layer's folder, unit, identity in the store and checksum, how many
samples it stores, its rejects by reason (JSON), and of those samples that became rows the number of
latent values a channel, their sum and the sum of their squares."""


REST = pa.schema(
    [
        ("layer", pa.string()),
        ("id", pa.string()),
        ("tensor", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("crc32", pa.uint32()),
        ("kind", pa.string()),
    ]
)
"""Where a tensor lies whose sample is no row: a clip that another layer refused, its caption."""


class Names:
    """Numbers names in the order in which they are first met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, names: Iterable[str]) -> NDArray[np.int32]:
        """Return the numbers of some names."""
        numbers = self._numbers
        return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def sort(self, used: NDArray[np.bool_]) -> tuple[list[str], NDArray[np.int32]]:
        """Return the names that are used, sorted, and the place among them of every number."""
        names = [name for name, wanted in zip(self, used.tolist(), strict=True) if wanted]
        names.sort()
        ranks = {name: rank for rank, name in enumerate(names)}
        return names, np.array([ranks.get(name, 0) for name in self], np.int32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Naming:
    """The names that the numbers in all columns of a snapshot stand for."""

    shard: Names = dataclasses.field(default_factory=Names)
    """Keys of shards from the cache's root."""
    kind: Names = dataclasses.field(default_factory=Names)
    """Types and shapes."""


Place = dict[str, NDArray[Any]]
"""Where a tensor of each sample lies, as the columns `TYPES`; a length below 0 is no tensor."""
Tree = Mapping[str, Any]
"""A commit as `records.read_columns` returns it."""


def nowhere(count: int) -> Place:
    """Return the places of tensors that are not there."""
    place: Place = {name: np.zeros(count, dtype) for name, dtype in TYPES.items()}
    place["length"] -= 1
    return place


def take(place: Place, rows: Rows) -> Place:
    """Return some rows of the places of a tensor."""
    return {name: column[rows] for name, column in place.items()}


def read_places(column: pa.StructArray, naming: Naming) -> Place:
    """Return a column of an index as arrays; its shards keep their numbers."""
    place: Place = {name: column.field(name).to_numpy() for name in NUMBERS}
    kind = column.field("kind")
    numbers = naming.kind.number(kind.dictionary.to_pylist())
    return place | {"kind": numbers[kind.indices.to_numpy()]}


def rest_table(folder: str, tensor: str, ids: pa.Array, place: Place, naming: Naming) -> pa.Table:
    """Return the places of some samples' tensors as rows of `REST`."""
    columns = {name: pa.array(place[name]) for name in ("offset", "length", "crc32")}
    for name in ("shard", "kind"):
        names = pa.array(list(getattr(naming, name)), pa.string())
        columns[name] = names.take(pa.array(place[name]))
    columns |= {"layer": pa.repeat(folder, len(ids)), "tensor": pa.repeat(tensor, len(ids))}
    return pa.table(columns | {"id": ids}).select(REST.names).cast(REST)


def read_rest(table: pa.Table, naming: Naming) -> Place:
    """Return rows of `REST` as places."""
    place: Place = {name: table[name].to_numpy() for name in ("offset", "length", "crc32")}
    return place | {
        name: getattr(naming, name).number(table[name].to_pylist()) for name in ("shard", "kind")
    }


def fill_places(
    places: dict[str, Place],
    folder: str,
    trees: Sequence[Tree],
    rows: Sequence[Rows],
    *,
    naming: Naming,
    count: int,
) -> None:
    """Write down where commits say that tensors lie.

    Args:
        places: by name of the tensor; those of new names are added.
        folder: the layer.
        trees: the commits.
        rows: for each commit the samples that it stores.
        naming: gives shards and kinds their numbers.
        count: how many samples the layer has.
    """
    shards = [naming.shard.number(f"{folder}/{key}" for key in tree["keys"]) for tree in trees]
    kinds = [naming.kind.number(itertools.starmap(kind_of, tree["kinds"])) for tree in trees]
    for name in sorted({name for tree in trees for name in tree["tensors"]}):
        if name not in places:
            places[name] = nowhere(count)
        found = [
            (i, tree["tensors"][name]) for i, tree in enumerate(trees) if name in tree["tensors"]
        ]
        target = np.concatenate([rows[i][c["sample"]] for i, c in found])
        place = places[name]
        place["shard"][target] = np.concatenate([shards[i][c["key"]] for i, c in found])
        place["kind"][target] = np.concatenate([kinds[i][c["kind"]] for i, c in found])
        for column in ("offset", "length", "crc32"):
            values = list(itertools.chain.from_iterable(c[column] for _, c in found))
            place[column][target] = np.array(values, TYPES[column])


def unit_line(
    folder: str, tree: Tree, identity: str, counted: NDArray[np.bool_] | None
) -> dict[str, Any]:
    """Return what is kept of one commit, a row of `UNITS`.

    Args:
        folder: its layer.
        tree: the commit.
        identity: its identity in the store.
        counted: which of its samples count for the sums; None is all.
    """
    rejects: dict[str, int] = {}
    for reject in tree["rejects"]:
        rejects[reject["reason"]] = rejects.get(reject["reason"], 0) + 1
    line = {"layer": folder, "unit": tree["unit"], "identity": identity, "sha256": tree["sha256"]}
    line |= {"samples": len(tree["id"]), "rejects": json.dumps(rejects, sort_keys=True)}
    line |= {"values": 0, **{name: [] for name in SUMS}}
    channels = max(tree["channels"], default=0)
    if channels:
        chosen = slice(None) if counted is None else counted
        sizes = np.array([math.prod(shape[1:]) for shape, _ in tree["kinds"]])
        line["values"] = int(sizes[tree["tensors"]["mean"]["kind"]][chosen].sum())
        for name in SUMS:
            sums = unpack_sums(tree[name]).reshape(-1, channels)
            line[name] = sums[chosen].sum(0).tolist()
    return line
