"""What an earlier snapshot knows of the commits of a later one.

A snapshot of ten million samples stands on hundreds of thousands of commits. They are read once:
the next snapshot takes over what the one before it kept of every commit that is still the same.

Legend: N samples of a layer.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from video_platform.latents.gathered import Naming, Place, nowhere, read_places, read_rest, take
from video_platform.latents.index import Index, whole
from video_platform.latents.membership import Members, Rows, hashes, hexadecimal


class Earlier:
    """What an earlier snapshot knows, in the numbers of a new one."""

    def __init__(self, index: Index, naming: Naming) -> None:
        self._index = index
        self._units, self._rest = index.units(), index.rest()
        self._rows: dict[bool, Rows] = {}
        self.naming = naming
        self._shards = naming.shard.number(index.shards.to_pylist())

    def layer(
        self,
        folder: str,
        members: Members,
        columns: Mapping[str, str],
        *,
        captions: bool = False,
    ) -> "EarlierLayer":
        """Return what it knows of a layer.

        Args:
            folder: the layer.
            members: its samples.
            columns: the column of each of its tensors.
            captions: whether its samples are captions; otherwise they are clips.
        """
        units, rest = (
            table.filter(pc.field("layer") == folder) for table in (self._units, self._rest)
        )
        if captions not in self._rows:
            self._rows[captions] = self._find(members, captions=captions)
        lines = members.find(whole(rest["id"]).cast(pa.large_string()))
        row = self._rows[captions]
        return EarlierLayer(self, columns, row, units=units, rest=rest, lines=lines)

    def columns(self, prefix: str) -> dict[str, str]:
        """Return the column of each tensor whose column starts so."""
        names = [name for name in self._index.columns if name.startswith(prefix)]
        return {name.removeprefix(prefix): name for name in names}

    def fill(self, places: Mapping[str, Place], columns: Mapping[str, str], row: Rows) -> None:
        """Write down where tensors of some rows lie.

        Args:
            places: is filled, by tensor.
            columns: the column of each tensor.
            row: for each sample the row that tells of it, -1 for none.
        """
        member = np.full(len(self._index), -1)
        chosen = np.flatnonzero(row >= 0)
        member[row[chosen]] = chosen
        for start, table in self._index.parts():
            target = member[start : start + len(table)]
            rows = np.flatnonzero(target >= 0)
            for tensor, name in columns.items():
                place = take(read_places(whole(table[name]), self.naming), rows)
                place["shard"] = self._shards[place["shard"]]
                for field, values in place.items():
                    places[tensor][field][target[rows]] = values

    def _find(self, members: Members, *, captions: bool) -> Rows:
        """Return for each sample of a layer a row that tells of it, (N,), -1 where none does."""
        row = np.full(len(members), -1)
        for start, table in self._index.parts():
            column = whole(table["caption" if captions else "id"])
            names = hexadecimal(hashes(column)) if captions else column.cast(pa.large_string())
            found = members.find(names)
            there = np.flatnonzero(found >= 0)
            row[found[there]] = start + there
        return row


class EarlierLayer:
    """What an earlier snapshot knows of one layer.

    Attributes:
        units: its commits, see `gathered.UNITS`.
        known: which samples (N,) it tells of.
        counted: those that were rows, (N,).
    """

    def __init__(
        self,
        earlier: Earlier,
        columns: Mapping[str, str],
        row: Rows,
        *,
        units: pa.Table,
        rest: pa.Table,
        lines: Rows,
    ) -> None:
        self._earlier = earlier
        self._columns = columns
        self._row = row
        self._rest = rest
        self._lines = lines
        self.units = units
        self.counted = row >= 0
        self.known = self.counted.copy()
        self.known[lines[lines >= 0]] = True

    def places(self, chosen: NDArray[np.bool_]) -> dict[str, Place]:
        """Return where the tensors of some samples (N,) lie, by name; nowhere for the others."""
        rest = self._rest["tensor"].to_pylist()
        names = sorted({*self._columns, *rest}) if chosen.any() else []
        places = {name: nowhere(len(chosen)) for name in names}
        if places:
            self._earlier.fill(places, self._columns, np.where(chosen, self._row, -1))
        wanted = (self._lines >= 0) & chosen[self._lines]
        for name in places:
            lines = np.flatnonzero(wanted & np.array([tensor == name for tensor in rest], bool))
            found = read_rest(self._rest.take(pa.array(lines)), self._earlier.naming)
            for field, values in found.items():
                places[name][field][self._lines[lines]] = values
        return places
