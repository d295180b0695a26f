"""Which unit each of very many samples belongs to, without an object for each of them.

The answer is that of `units.partition`; the work is done on arrays.

Legend: N samples, U units.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from video_platform.latents.sealed import digest

BATCH = 1 << 16
"""Samples of which there are Python objects at one time."""
DIGEST = 32
"""Bytes of a SHA-256."""

Rows = NDArray[np.int64]
Digests = NDArray[np.uint8]
"""SHA-256 of some strings, (N, 32)."""
Named = Callable[[Rows], pa.Array]
"""Returns a string for each of some samples."""


@dataclasses.dataclass(frozen=True)
class Members:
    """The samples of a layer, and how they are split into units."""

    names: Named
    """Returns the ids of samples; sorted, as the samples are."""
    units: list[str]
    """Ids of the units."""
    starts: Rows
    """(U + 1,), where in `order` each unit begins."""
    order: Rows
    """(N,), the samples unit by unit, sorted within each."""
    keys: NDArray[np.uint64]
    """(N,), the first eight bytes of the SHA-256 of each id."""

    def __len__(self) -> int:
        return len(self.order)

    def of(self, unit: int) -> Rows:
        """Return the samples of a unit."""
        return self.order[self.starts[unit] : self.starts[unit + 1]]

    def count(self, chosen: NDArray[np.bool_]) -> Rows:
        """Return how many of the chosen samples (N,) each unit has, (U,)."""
        if not self.units:
            return np.zeros(0, np.int64)
        return np.add.reduceat(chosen[self.order].astype(np.int64), self.starts[:-1])

    def mask(self, units: Sequence[int]) -> NDArray[np.bool_]:
        """Return which samples (N,) belong to some units."""
        chosen = np.zeros(len(self), bool)
        for unit in units:
            chosen[self.of(unit)] = True
        return chosen

    def find(self, ids: pa.Array) -> Rows:
        """Return the sample of each id, -1 for an id that is not there."""
        order, keys = self._sorted
        if not len(keys):
            return np.full(len(ids), -1)
        place = np.searchsorted(keys, first_bytes(hashes(ids)))
        rows = order[np.minimum(place, len(keys) - 1)]
        same = pc.equal(self.names(rows), ids).to_numpy(zero_copy_only=False)
        return np.where(same, rows, -1)

    @functools.cached_property
    def _sorted(self) -> tuple[Rows, NDArray[np.uint64]]:
        order = np.argsort(self.keys)
        return order, self.keys[order]


def split(
    names: Named, sources: Named, groups: Digests | None, *, count: int, size: int
) -> Members:
    """Split samples into units.

    Args:
        names: returns their ids, which are sorted.
        sources: returns hashes of what they are made from.
        groups: of which each is one; None gives each a group of its own.
        count: how many they are.
        size: most samples in a unit.
    """
    keys = np.empty((count, 2 * DIGEST), np.uint8)  # group, then id
    for start in range(0, count, BATCH):
        part = np.arange(start, min(start + BATCH, count))
        keys[part, DIGEST:] = hashes(names(part))
    keys[:, :DIGEST] = keys[:, DIGEST:] if groups is None else groups
    _check_unique(keys[:, DIGEST:])
    order = _order(keys)
    leaves = list(_leaves(keys, order, size))
    starts = np.array([start for start, _ in leaves] + [count], np.int64)
    for start, end in itertools.pairwise(starts.tolist()):
        order[start:end].sort()
    units = list(_unit_ids(names, sources, order, starts, [prefix for _, prefix in leaves]))
    return Members(names, units, starts, order, first_bytes(keys[:, DIGEST:]))


def hashes(strings: pa.Array) -> Digests:
    """Return the SHA-256 of strings of which none is null."""
    strings = strings.cast(pa.large_string())
    _, offsets, data = strings.buffers()
    if data is None:
        ends, view = [0] * (len(strings) + 1), memoryview(b"")
    else:
        first, view = strings.offset, memoryview(data)
        ends = np.frombuffer(offsets, np.int64)[first : first + len(strings) + 1].tolist()
    sha256 = hashlib.sha256
    digests = b"".join([sha256(view[a:b]).digest() for a, b in itertools.pairwise(ends)])
    return np.frombuffer(digests, np.uint8).reshape(-1, DIGEST)


def hexadecimal(digests: Digests) -> pa.Array:
    """Spell digests."""
    text = digests.tobytes().hex().encode()
    offsets = np.arange(len(digests) + 1, dtype=np.int64) * 2 * DIGEST
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.large_string(), len(digests), buffers)


def first_bytes(digests: Digests) -> NDArray[np.uint64]:
    """Return the first eight bytes of each digest as a number that sorts as they do."""
    return np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0].astype(np.uint64)


def lexical_order(digests: Digests) -> Rows:
    """Return the order that sorts rows of bytes."""
    columns = range(digests.shape[1] - 8, -1, -8)  # the last of them decides first
    return np.lexsort([first_bytes(digests[:, column:]) for column in columns])


def _order(keys: Digests) -> Rows:
    """Return the order that sorts keys, by the beginnings of group and id where those suffice."""
    group, own = first_bytes(keys), first_bytes(keys[:, DIGEST:])
    order = np.lexsort([own, group])
    group, own, rest = group[order], own[order], keys[:, 8:DIGEST]
    tied = np.flatnonzero(group[1:] == group[:-1])
    mixed = (rest[order[tied]] != rest[order[tied + 1]]).any()
    if mixed or (own[tied] == own[tied + 1]).any():
        return lexical_order(keys)
    return order


def _check_unique(digests: Digests) -> None:
    """Check that no two of the ids are the same, of which these are the sorted ids' digests."""
    keys = first_bytes(digests)
    alike = np.flatnonzero(keys[1:] == keys[:-1])
    if (digests[alike] == digests[alike + 1]).all(1).any():
        raise ValueError("the ids of the members are not unique")


def _leaves(keys: Digests, order: Rows, size: int) -> Iterator[tuple[int, str]]:
    """Yield where the units begin among the sorted samples, and the bits that their keys share."""
    stack = [(0, len(order), 0)] if len(order) else []
    while stack:
        start, end, depth = stack.pop()
        if end - start <= size:
            shared = keys[order[start], : -(-depth // 8)]
            yield start, "".join(f"{byte:08b}" for byte in shared)[:depth]
            continue
        byte, shift = depth // 8, 7 - depth % 8
        low, high = start, end  # the first sample whose next bit is 1 is among them
        if not keys[order[end - 1], byte] >> shift & 1:
            low = end
        elif keys[order[start], byte] >> shift & 1:
            high = start
        while low < high:
            middle = (low + high) // 2
            if keys[order[middle], byte] >> shift & 1:
                high = middle
            else:
                low = middle + 1
        if low < end:
            stack.append((low, end, depth + 1))
        if start < low:
            stack.append((start, low, depth + 1))


def _unit_ids(
    names: Named, sources: Named, order: Rows, starts: Rows, prefixes: Sequence[str]
) -> Iterator[str]:
    """Yield the id that `units.Unit` gives each unit."""
    ends = starts.tolist()
    first = 0
    while first < len(prefixes):
        last = first + 1
        while last < len(prefixes) and ends[last + 1] - ends[first] <= BATCH:
            last += 1
        rows = order[ends[first] : ends[last]]
        columns = names(rows).to_pylist(), sources(rows).to_pylist()
        pairs = [[*pair] for pair in zip(*columns, strict=True)]
        for unit in range(first, last):
            members = pairs[ends[unit] - ends[first] : ends[unit + 1] - ends[first]]
            yield digest([prefixes[unit], members])[:16]
        first = last
