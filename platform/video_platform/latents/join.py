"""Join the layers of a plan into the rows of a snapshot, as columns.

Every clip of the source whose latents, caption and further layers are all stored becomes a row; the
rows are sorted by (bucket, id). What is written follows from the source and the commits alone,
whatever an earlier snapshot knew of them.

Legend: N clips of the source.
"""

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from video_platform.latents.committed import Committed
from video_platform.latents.earlier import Earlier, EarlierLayer
from video_platform.latents.gathered import REST, Naming, Place, take
from video_platform.latents.index import KIND, NUMBERS, PLACE, Index, parse_kind
from video_platform.latents.manifest import Plan, caption_key
from video_platform.latents.membership import Rows
from video_platform.latents.records import SUMS, TensorRecord
from video_platform.latents.source import Source
from video_platform.storage import Store

LATENT = {"mean": "mean", "logvar": "logvar"}
"""The column of each tensor of the latent layer."""
EMBEDDING = "embedding"
"""The tensor of a text layer."""


class Join:
    """A plan's layers, joined by clip and caption.

    Attributes:
        plan: what is joined.
        source: its clips.
        latent: the latent layer.
        text: the text layers by encoder.
        clip: the further layers by name.
        stored: (N,), which clips are rows, once `read` was called.
    """

    def __init__(self, root: Store, plan: Plan) -> None:
        self.plan = plan
        self.source = Source(root, plan.source)
        self._clips = self.source.clips(plan.unit_size)
        self._texts = self.source.texts(plan.text_unit_size)
        self._naming = Naming()
        self.latent = Committed(root, plan.latent, self._clips)
        self.text = {n: Committed(root, plan.text[n], self._texts) for n in sorted(plan.text)}
        self.clip = {n: Committed(root, plan.clip[n], self._clips) for n in sorted(plan.clip)}
        self.stored: NDArray[np.bool_]

    @property
    def layers(self) -> list[Committed]:
        """All layers, the latent one first."""
        return [self.latent, *self.text.values(), *self.clip.values()]

    def read(self, index: Index | None = None) -> None:
        """Read what is committed, as far as an earlier snapshot does not tell of it.

        Args:
            index: of the earlier snapshot.
        """
        earlier = Earlier(index, self._naming) if index else None
        stored = np.ones(len(self.source), bool)
        for name, layer in self.text.items():
            columns = {EMBEDDING: f"text/{name}"}
            layer.read(self._naming, _known(earlier, layer, columns, captions=True))
            stored &= layer.stored[self.source.caption]
        for name, layer in self.clip.items():
            columns = earlier.columns(f"clip/{name}/") if earlier else {}
            layer.read(self._naming, _known(earlier, layer, columns))
            stored &= layer.stored
        self.latent.read(self._naming, _known(earlier, self.latent, LATENT), counted=stored)
        self.stored = stored & self.latent.stored

    def rejects(self) -> dict[str, int]:
        """Count the clips that were refused: by reason, or by the further layer that refused."""
        counts: Counter[str] = Counter()
        for text in self.latent.units["rejects"].to_pylist():
            counts.update(json.loads(text))
        for name, layer in self.clip.items():
            refused = layer.done & ~layer.stored & self.latent.stored
            counts[f"clip/{name}"] = int(np.count_nonzero(refused))
        return {reason: count for reason, count in sorted(counts.items()) if count}

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of all latent means, a number a channel."""
        units = self.units(self.latent).filter(pc.field("values") > 0)
        count = pc.sum(units["values"]).as_py()
        mean, square = (np.array(units[name].to_pylist()).sum(0) / count for name in SUMS)  # (C,)
        std = np.sqrt(np.maximum(square - mean**2, 0))
        return tuple(mean.tolist()), tuple(std.tolist())

    def commits(self) -> list[list[object]]:
        """List layer, unit and checksum of every commit that went in."""
        rows = self.units(*self.layers).select(["layer", "unit", "sha256"]).to_pylist()
        return [[*row.values()] for row in rows]

    def units(self, *layers: Committed) -> pa.Table:
        """Return what is kept of the commits of layers, sorted."""
        table = pa.concat_tables([layer.units for layer in layers])
        return table.sort_by([("layer", "ascending"), ("unit", "ascending")]).combine_chunks()

    def buckets(self) -> dict[str, int]:
        """Count the rows of each bucket, in their order."""
        names, bucket = self._buckets
        counts = np.bincount(bucket[self.stored], minlength=len(names))
        return dict(zip(names, counts.tolist(), strict=True))

    def empty_text(self, encoder: str) -> TensorRecord | None:
        """Return where the embedding of the empty caption lies, its key from the cache's root."""
        return self.text[encoder].record(caption_key(""), EMBEDDING, self._naming)

    def parts(self) -> Iterator[pa.Table]:
        """Yield the rows, `index.ROWS` a table."""
        names, bucket = self._buckets
        rows = np.flatnonzero(self.stored)
        order = rows[np.argsort(bucket[rows], kind="stable")]
        kinds, kind = self._ranks("kind")
        shard = self._ranks("shard")[1]
        start = 0
        for shown in self.source.rows(np.where(self.stored, bucket, -1).astype(np.int32)):
            part = order[start : start + len(shown)]
            start += len(shown)
            columns = {name: shown[name] for name in shown.column_names}
            columns["bucket"] = pa.DictionaryArray.from_arrays(
                pa.array(bucket[part]), pa.array(names, pa.string())
            )
            for name, (place, row) in self._places.items():
                columns[name] = _struct(take(place, row[part]), shard, kind, kinds)
            yield pa.table(columns)

    @property
    def shards(self) -> pa.Table:
        """The keys of the shards that the rows name, by number."""
        return pa.table({"key": pa.array(self._ranks("shard")[0], pa.string())})

    @property
    def rest(self) -> pa.Table:
        """Where tensors lie that are stored and of no row, see `gathered.REST`."""
        texts = np.zeros(len(self._texts), bool)
        texts[self.source.caption[self.stored]] = True
        tables = [REST.empty_table()]
        for layer in self.layers:
            shown = texts if layer.folder in self.plan.text.values() else self.stored
            tables += layer.rest(shown, self._naming)
        keys = [(name, "ascending") for name in ("layer", "tensor", "id")]
        return pa.concat_tables(tables).sort_by(keys)

    @functools.cached_property
    def _places(self) -> dict[str, tuple[Place, Rows]]:
        """For each tensor its places, and for each clip (N,) its row among them."""
        own, caption = np.arange(len(self.source)), self.source.caption
        found = {name: (self.latent.places[tensor], own) for tensor, name in LATENT.items()}
        for name, layer in self.text.items():
            found[f"text/{name}"] = layer.places[EMBEDDING], caption
        for name, layer in self.clip.items():
            for tensor, place in sorted(layer.places.items()):
                if (place["length"][self.stored] >= 0).any():
                    found[f"clip/{name}/{tensor}"] = place, own
        return found

    @functools.cached_property
    def _buckets(self) -> tuple[list[str], NDArray[np.int32]]:
        """Return the names of the buckets, sorted, and the bucket of each clip that is a row."""
        if not self.stored.any():
            return [], np.zeros(len(self.source), np.int32)
        kind = self.latent.places["mean"]["kind"]
        shapes = ["x".join(map(str, parse_kind(name)[0])) for name in self._naming.kind]
        names = sorted({shapes[number] for number in np.unique(kind[self.stored]).tolist()})
        ranks = {name: rank for rank, name in enumerate(names)}
        return names, np.array([ranks.get(shape, 0) for shape in shapes], np.int32)[kind]

    def _ranks(self, field: str) -> tuple[list[str], NDArray[np.int32]]:
        """Return the names of shards or kinds that the rows use, sorted, and their new numbers."""
        names = getattr(self._naming, field)
        used = np.zeros(len(names), bool)
        for place, row in self._places.values():
            rows = row[self.stored]
            used[place[field][rows[place["length"][rows] >= 0]]] = True
        ranked: tuple[list[str], NDArray[np.int32]] = names.sort(used)
        return ranked


def _known(
    earlier: Earlier | None,
    layer: Committed,
    columns: Mapping[str, str],
    *,
    captions: bool = False,
) -> EarlierLayer | None:
    """Return what an earlier snapshot knows of a layer, if there is one."""
    if earlier is None:
        return None
    return earlier.layer(layer.folder, layer.members, columns, captions=captions)


def _struct(
    place: Place,
    shard: NDArray[np.int32],
    kind: NDArray[np.int32],
    kinds: list[str],
) -> pa.Array:
    """Return places as a column of the index."""
    there = place["length"] >= 0
    columns = {name: np.where(there, place[name], 0) for name in NUMBERS}
    columns["length"] = place["length"]
    columns["shard"] = np.where(there, shard[place["shard"]], 0)
    numbers = np.where(there, kind[place["kind"]], 0)
    spelled = pa.DictionaryArray.from_arrays(pa.array(numbers), pa.array(kinds, pa.string()))
    arrays = [pa.array(columns[name]).cast(PLACE.field(name).type) for name in NUMBERS]
    return pa.StructArray.from_arrays([*arrays, spelled.cast(KIND)], fields=list(PLACE))
