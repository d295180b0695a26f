"""The clips of a stored source, as columns: what takes an object a clip elsewhere takes bytes here.

Only ids and hashes are in memory; captions are read when they are needed, in order.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from video_platform.latents.index import ROWS, whole
from video_platform.latents.manifest import MADE_FROM, open_manifest
from video_platform.latents.membership import (
    Digests,
    Members,
    Rows,
    hashes,
    hexadecimal,
    lexical_order,
    split,
)
from video_platform.storage import Store
from video_platform.video.policy import ClipSize

SHOWN = ("id", "caption", "program")
"""The columns of a source that a snapshot shows."""


class Source:
    """The clips of a stored source, sorted by id.

    Attributes:
        sizes: the different sizes at which they are decoded, sorted.
        caption: for each clip its caption, counted among the members of `texts`.
    """

    def __init__(self, root: Store, name: str) -> None:
        self._file = open_manifest(root, name)
        self._ids = self._column("id")
        self.sizes = self._sizes()
        self._digests, self.caption = _distinct(self._captions())

    def __len__(self) -> int:
        return len(self._ids)

    def clips(self, size: int) -> Members:
        """Split the clips into units of at most `size`."""
        sources, ids = self._column(MADE_FROM), self._ids
        return split(
            lambda rows: ids.take(pa.array(rows)),
            lambda rows: sources.take(pa.array(rows)),
            self._groups(),
            count=len(self),
            size=size,
        )

    def texts(self, size: int) -> Members:
        """Split the captions, each of them once and the empty one always, into units."""
        digests = self._digests

        def names(rows: Rows) -> pa.Array:
            return hexadecimal(digests[rows])

        return split(names, names, None, count=len(digests), size=size)

    def rows(self, buckets: NDArray[np.int32]) -> Iterator[pa.Table]:
        """Yield what clips show, `ROWS` of them a table, sorted by (bucket, id).

        Args:
            buckets: the bucket of each clip (N,), below 0 where it is left out.
        """
        with tempfile.TemporaryDirectory() as folder:
            paths = self._sort_out(buckets, Path(folder))
            left: list[pa.Table] = []
            for path in paths:
                with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as batches:
                    for batch in batches:
                        left.append(pa.Table.from_batches([batch]))
                        while sum(len(part) for part in left) >= ROWS:
                            table = pa.concat_tables(left)
                            yield table[:ROWS].combine_chunks()
                            left = [table[ROWS:].combine_chunks()]
                left = [pa.concat_tables(left).combine_chunks()]  # not in the map any more
            if left and len(left[0]):
                yield left[0]

    def _sort_out(self, buckets: NDArray[np.int32], folder: Path) -> list[Path]:
        """Write what the clips of each bucket show to a file of its own."""
        names = [folder / str(bucket) for bucket in range(int(buckets.max(initial=-1)) + 1)]
        schema = pa.schema([(name, pa.string()) for name in SHOWN])
        start = 0
        with ExitStack() as stack:
            files = [stack.enter_context(pa.ipc.new_stream(str(name), schema)) for name in names]
            for batch in self._file.iter_batches(columns=list(SHOWN)):
                shown = pa.table({name: batch[name] for name in SHOWN})
                shown = shown.set_column(1, "caption", pc.fill_null(shown["caption"], ""))
                chosen = buckets[start : start + len(batch)]
                start += len(batch)
                for bucket in np.unique(chosen[chosen >= 0]).tolist():
                    rows = shown.take(pa.array(np.flatnonzero(chosen == bucket)))
                    files[bucket].write_table(rows.cast(schema))
        return names

    def _captions(self) -> Digests:
        """Hash the caption of each clip, and the empty one at the end."""
        batches = (batch["caption"] for batch in self._file.iter_batches(columns=["caption"]))
        parts = [hashes(pc.fill_null(captions, "")) for captions in batches]
        return np.concatenate([*parts, hashes(pa.array([""]))])

    def _groups(self) -> Digests | None:
        """Hash what clips are grouped by: their file, or their id where there is none."""
        if not pc.any(_given(self._column("file"))).as_py():
            return None
        columns = self._file.iter_batches(columns=["id", "file"])
        parts = [hashes(pc.if_else(_given(b["file"]), b["file"], b["id"])) for b in columns]
        return np.concatenate([*parts, np.empty((0, 32), np.uint8)])

    def _sizes(self) -> tuple[ClipSize, ...]:
        sizes = pc.unique(self._column("size")).to_pylist()
        return tuple(sorted(ClipSize(*json.loads(size)) for size in sizes if size))

    def _column(self, name: str) -> pa.Array:
        return whole(self._file.read([name])[name])


def _given(files: pa.Array) -> pa.Array:
    """Say which files have a name."""
    return pc.fill_null(pc.not_equal(files, ""), False)


def _distinct(digests: Digests) -> tuple[Digests, Rows]:
    """Return the different digests, sorted, and which of them each one is, without the last."""
    order = lexical_order(digests)
    ordered = digests[order]
    first = np.ones(len(digests), bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(1)
    number = np.empty(len(digests), np.int64)
    number[order] = np.cumsum(first) - 1
    return ordered[first], number[:-1]
