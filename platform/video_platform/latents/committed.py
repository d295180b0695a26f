"""The committed samples of one layer, read from its commits or taken from an earlier snapshot.

Legend: N samples of the layer, U units.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from video_platform.errors import CorruptCacheError
from video_platform.latents.earlier import EarlierLayer
from video_platform.latents.gathered import (
    UNITS,
    Naming,
    Place,
    Tree,
    fill_places,
    rest_table,
    take,
    unit_line,
)
from video_platform.latents.index import NUMBERS, parse_kind
from video_platform.latents.membership import Members, Rows
from video_platform.latents.records import TensorRecord, read_columns
from video_platform.storage import Store

READERS = 16
"""Threads that read commits."""
CHUNK = 512
"""Commits in memory at one time as Python objects."""


class Committed:
    """The committed samples of one layer of a plan.

    Args:
        root: the cache.
        folder: the layer.
        members: its samples by unit.

    Attributes:
        folder: the layer.
        members: its samples by unit.
        commits: identity in the store of every commit of the plan, by unit.
        stored: (N,), whether a sample is stored, once `read` was called.
        places: where the tensors of the samples lie, by name of the tensor.
        units: what is kept of each commit, see `gathered.UNITS`.
    """

    def __init__(self, root: Store, folder: str, members: Members) -> None:
        listed = root.scan(f"{folder}/commits")
        identities = {key.rsplit("/", 1)[-1][:-5]: stat.identity for key, stat in listed.items()}
        self._root = root
        self.members = members
        self.folder = folder
        self.commits = {name: identities[name] for name in members.units if name in identities}
        self.stored = np.zeros(len(members), bool)
        self.places: dict[str, Place] = {}
        self.units: pa.Table = UNITS.empty_table()

    @property
    def missing(self) -> int:
        """How many units are not committed."""
        return len(self.members.units) - len(self.commits)

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which samples (N,) are of a unit that is committed, stored or refused."""
        units = enumerate(self.members.units)
        return self.members.mask([n for n, unit in units if unit in self.commits])

    def rest(self, shown: NDArray[np.bool_], naming: Naming) -> list[pa.Table]:
        """Return where the tensors lie of samples that are stored and are no rows, see `REST`.

        Args:
            shown: which samples (N,) are rows.
            naming: of shards and kinds.
        """
        tables = []
        for tensor, place in sorted(self.places.items()):
            rows = np.flatnonzero((place["length"] >= 0) & ~shown)
            ids = self.members.names(rows)
            tables.append(rest_table(self.folder, tensor, ids, take(place, rows), naming))
        return tables

    def read(
        self,
        naming: Naming,
        earlier: EarlierLayer | None = None,
        *,
        counted: NDArray[np.bool_] | None = None,
    ) -> None:
        """Read the commits that an earlier snapshot does not tell of.

        Args:
            naming: gives shards and kinds their numbers.
            earlier: what an earlier snapshot kept of this layer.
            counted: which samples (N,) count for the sums; None is all.

        Raises:
            CorruptCacheError: a commit is damaged, or is none of its unit.
        """
        wanted = dict.fromkeys(self.commits)
        if earlier is not None:
            for unit in self._adopt(earlier, counted):
                del wanted[unit]
        numbers = {unit: number for number, unit in enumerate(self.members.units)}
        with ThreadPoolExecutor(READERS) as threads:
            for units in _batches(list(wanted)):
                trees = list(threads.map(self._read_commit, units))
                self._add(trees, [numbers[unit] for unit in units], naming, counted)

    def record(self, sample: str, tensor: str, naming: Naming) -> TensorRecord | None:
        """Return where a tensor lies, its key taken from the cache's root."""
        (row,) = self.members.find(pa.array([sample], pa.large_string())).tolist()
        if row < 0 or not self.stored[row]:
            return None
        place = self.places[tensor]
        shard, offset, length, crc32 = (place[name][row].item() for name in NUMBERS)
        shape, dtype = parse_kind([*naming.kind][place["kind"][row]])
        return TensorRecord(
            key=[*naming.shard][shard],
            offset=offset,
            length=length,
            crc32=crc32,
            shape=shape,
            dtype=dtype,
        )

    def _read_commit(self, unit: str) -> dict[str, Any]:
        key = f"{self.folder}/commits/{unit}.json"
        return read_columns(self._root.read(key), key)

    def _add(
        self,
        trees: list[dict[str, Any]],
        numbers: list[int],
        naming: Naming,
        counted: NDArray[np.bool_] | None,
    ) -> None:
        """Add what some commits say."""
        rows = [
            self._rows(tree, self.members.of(number))
            for tree, number in zip(trees, numbers, strict=True)
        ]
        fill_places(self.places, self.folder, trees, rows, naming=naming, count=len(self.members))
        lines = []
        for tree, own in zip(trees, rows, strict=True):
            self.stored[own] = True
            share = None if counted is None else counted[own]
            lines.append(unit_line(self.folder, tree, self.commits[tree["unit"]], share))
        self.units = pa.concat_tables([self.units, pa.Table.from_pylist(lines, UNITS)])

    def _rows(self, tree: Tree, members: Rows) -> Rows:
        """Return the samples that a commit stores: those of its unit that it does not refuse."""
        if tree["rejects"]:
            refused = {reject["id"] for reject in tree["rejects"]}
            names = self.members.names(members).to_pylist()
            members = members[[name not in refused for name in names]]
        ids = pa.array(tree["id"], pa.large_string())
        if not self.members.names(members).equals(ids):
            raise CorruptCacheError(
                f"{self.folder}/commits/{tree['unit']}.json holds other samples than its unit; "
                "see `vdp cache verify`"
            )
        return members

    def _adopt(self, earlier: EarlierLayer, counted: NDArray[np.bool_] | None) -> list[str]:
        """Take over the commits that are still the same and that an earlier snapshot knows whole.

        Returns:
            the units.
        """
        members, numbers = self.members, {u: n for n, u in enumerate(self.members.units)}
        found = members.count(earlier.known)
        other = earlier.known & (earlier.counted != counted) if counted is not None else None
        spoilt = members.count(other) if other is not None else np.zeros(len(found))
        fields = (earlier.units[name].to_pylist() for name in ("unit", "identity", "samples"))
        lines, kept = [], []
        for line, (unit, identity, samples) in enumerate(zip(*fields, strict=True)):
            number = numbers.get(unit, -1)
            same = self.commits.get(unit) == identity
            if same and found[number] == samples and not spoilt[number]:
                lines.append(line)
                kept.append(number)
        chosen = members.mask(kept)
        self.stored |= chosen & earlier.known
        self.places = earlier.places(chosen)
        self.units = earlier.units.take(pa.array(lines, pa.int64()))
        return [members.units[unit] for unit in kept]


def _batches(units: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield `CHUNK` units at a time."""
    for start in range(0, len(units), CHUNK):
        yield units[start : start + CHUNK]
