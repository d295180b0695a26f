"""Open a snapshot of the cache and read samples by position.

    cache = open_cache("outputs/cache")
    cache[0].mean            # (C, T, H, W), not normalised
    cache[0].text["words"]   # (L, D)

Every tensor is checked against its CRC when it is read. A cache may be pickled and read by several
threads; the copy opens the same snapshot again. Opening takes the same time and memory however many
samples there are.

On S3 a sample takes one request a layer. With a `DiskCache` what was read once stays on the local
disk; a copy that the disk has damaged is fetched again.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from video_platform.errors import CorruptCacheError, StaleCacheError
from video_platform.latents.disk import DiskCache
from video_platform.latents.index import places
from video_platform.latents.layer import read_layer
from video_platform.latents.records import TensorRecord
from video_platform.latents.shard import unpack
from video_platform.latents.snapshots import Snapshot, load_index, load_snapshot
from video_platform.latents.spans import SpanReader
from video_platform.latents.spec import LayerSpec, differences
from video_platform.storage import Store, open_store
from video_platform.video.policy import ClipSize


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One clip of the cache; tensors are float32 on the CPU."""

    id: str
    """Its id in the source."""
    caption: str
    """What it shows; empty when the source does not say."""
    mean: torch.Tensor
    """Mean of its latents (C, T, H, W), not normalised."""
    logvar: torch.Tensor
    """Their log-variance (C, T, H, W)."""
    text: dict[str, torch.Tensor]
    """The embedding of its caption (L, D), valid tokens only, by encoder."""
    layers: dict[str, dict[str, torch.Tensor]]
    """What further layers hold of it, by layer and name of the tensor."""
    program: dict[str, Any] | None
    """Ground truth of a synthetic clip."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredSample:
    """One clip of the cache as it is stored."""

    id: str
    """Its id in the source."""
    caption: str
    """What it shows; empty when the source does not say."""
    program: dict[str, Any] | None
    """Ground truth of a synthetic clip."""
    tensors: dict[str, torch.Tensor]
    """In the precision in which they are stored, by column of the index: `mean`, `logvar`,
    `text/<encoder>`, `clip/<layer>/<tensor>`."""


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Samples that lie side by side in a snapshot and whose latents have one shape."""

    shape: tuple[int, ...]
    """(C, T, H, W)."""
    places: range
    """Their places."""


class Cache:
    """A sequence of samples: one snapshot of a latent cache.

    Args:
        root: the cache.
        header: the snapshot.
        disk: keeps what is read of a remote cache; None keeps nothing.
    """

    def __init__(self, root: Store, header: Snapshot, disk: DiskCache | None = None) -> None:
        self.header = header
        self._root = root
        self._disk = disk
        self._spans = SpanReader(root, disk)
        self._index = load_index(root, header, self._spans)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, place: int) -> Sample:
        """Read one sample; a negative place counts from the end.

        Raises:
            CorruptCacheError: stored bytes are not what was written.
        """
        if not -len(self) <= place < len(self):
            raise IndexError(f"sample {place} of {len(self)}")
        row = self._index[place % len(self)]
        mean, logvar = self._read([row.mean, row.logvar])
        return Sample(
            id=row.id,
            caption=row.caption,
            mean=mean,
            logvar=logvar,
            text={name: self._read([record])[0] for name, record in row.text.items()},
            layers={name: self._read_layer(records) for name, records in row.layers.items()},
            program=json.loads(row.program) if row.program else None,
        )

    def name(self, place: int) -> str:
        """Return the id of one sample; no tensor is read."""
        return str(self._index[place].id)

    def stored(self, place: int) -> StoredSample:
        """Read one sample without changing the precision of its tensors.

        Raises:
            CorruptCacheError: stored bytes are not what was written.
        """
        row = self._index[place]
        tensors = {
            name: self._read([record], as_stored=True)[0] for name, record in row.tensors.items()
        }
        program = json.loads(row.program) if row.program else None
        return StoredSample(id=row.id, caption=row.caption, program=program, tensors=tensors)

    def sizes_bytes(self) -> NDArray[np.int64]:
        """Return how many bytes the tensors of each sample take; no tensor is read."""
        parts = [
            sum(
                np.maximum(column.field("length").to_numpy(), 0)
                for column in places(table).values()
            )
            for _, table in self._index.parts()
        ]
        return np.concatenate(parts)

    def empty_text(self, encoder: str) -> torch.Tensor:
        """Return the embedding (L, D) of the empty caption."""
        return self._read([self.header.empty_text[encoder]])[0]

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation (C,) of the latent means of the snapshot."""
        return torch.tensor(self.header.mean), torch.tensor(self.header.std)

    @property
    def ids(self) -> list[str]:
        """The ids by position; no tensor is read."""
        return self._index.column("id")

    @property
    def captions(self) -> list[str]:
        """The captions by position; no tensor is read."""
        return self._index.column("caption")

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The latents' shapes (C, T, H, W) by position; no tensor is read."""
        return [bucket.shape for bucket in self.buckets for _ in bucket.places]

    @functools.cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        """The samples by shape of their latents; no index is read."""
        buckets, start = [], 0
        for name, clips in sorted(self.header.buckets.items()):
            shape = tuple(map(int, name.split("x")))
            buckets.append(Bucket(shape, range(start, start + clips)))
            start += clips
        return tuple(buckets)

    @property
    def encoders(self) -> list[str]:
        """The text encoders whose embeddings it holds."""
        return sorted(self.header.text)

    @property
    def layers(self) -> list[str]:
        """The further layers that it holds."""
        return sorted(self.header.clip)

    @property
    def url(self) -> str:
        """Where the cache lies."""
        return self._root.url

    @property
    def snapshot(self) -> int:
        """The snapshot's number."""
        return self.header.number

    @property
    def snapshot_id(self) -> str:
        """The snapshot's root hash."""
        return self.header.id

    @property
    def spec(self) -> LayerSpec:
        """What the latents are bound to."""
        return read_layer(self._root, self.header.latent).spec

    @property
    def text_specs(self) -> dict[str, LayerSpec]:
        """What the embeddings are bound to, by encoder."""
        return {
            name: read_layer(self._root, folder).spec
            for name, folder in sorted(self.header.text.items())
        }

    @property
    def layer_specs(self) -> dict[str, LayerSpec]:
        """What the further layers are bound to, by name."""
        return {
            name: read_layer(self._root, folder).spec
            for name, folder in sorted(self.header.clip.items())
        }

    @property
    def fingerprint(self) -> str:
        """Hash of what the latents are bound to."""
        return self.spec.fingerprint

    def _read_layer(self, records: Mapping[str, TensorRecord]) -> dict[str, torch.Tensor]:
        """Read the tensors that a further layer holds of a sample."""
        return dict(zip(records, self._read([*records.values()]), strict=True))

    def _read(
        self, records: Sequence[TensorRecord], *, as_stored: bool = False
    ) -> list[torch.Tensor]:
        """Read tensors of one sample in one layer, which lie side by side, in one go."""
        key, start = records[0].key, min(record.offset for record in records)
        end = max(record.offset + record.length for record in records)
        data = self._spans.read(key, start, end)
        try:
            return self._unpack(data, start, records, as_stored)
        except CorruptCacheError:  # it may be the local copy that is damaged
            self._spans.forget(key, start, end)
            data = self._spans.read(key, start, end)
            return self._unpack(data, start, records, as_stored)

    def _unpack(
        self, data: Any, start: int, records: Sequence[TensorRecord], as_stored: bool
    ) -> list[torch.Tensor]:
        view = memoryview(data)
        starts = [record.offset - start for record in records]
        return [
            unpack(view[at : at + r.length], r, where=self.url, as_stored=as_stored)
            for at, r in zip(starts, records, strict=True)
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.url, self.snapshot, self.snapshot_id, self._disk)


def open_cache(url: str, *, snapshot: int | None = None, disk: DiskCache | None = None) -> Cache:
    """Open a snapshot of a cache; None is the newest.

    Args:
        url: the cache.
        snapshot: the number of the snapshot.
        disk: keeps what is read of a remote cache; None keeps nothing.

    Raises:
        CacheError: there is no snapshot, or none of that number.
        CorruptCacheError: the snapshot is damaged.
    """
    root = open_store(url)
    return Cache(root, load_snapshot(root, snapshot), disk)


def check_matches(
    cache: Cache,
    latent: LayerSpec,
    *,
    sizes: Sequence[ClipSize],
    text: Mapping[str, LayerSpec] | None = None,
    layers: Mapping[str, LayerSpec] | None = None,
) -> None:
    """Check that a cache is what a recipe would make.

    Args:
        cache: the cache.
        latent: what its latents should be bound to.
        sizes: the sizes that its clips may have.
        text: what its embeddings should be bound to, by the encoders that are needed.
        layers: what its further layers should be bound to, as far as they are needed.

    Raises:
        StaleCacheError: it is not; the message names every field that differs.
    """
    unlike = differences(cache.spec.identity, dict(latent.identity))
    other = sorted({*cache.header.sizes} - {*sizes})
    if other:
        held, allowed = (", ".join(map(str, each)) for each in (other, sorted(sizes)))
        unlike.append(f"it holds clips of {held}, the recipe makes {allowed}")
    for kind, made, wanted in (
        ("text", cache.text_specs, text or {}),
        ("layer", cache.layer_specs if layers else {}, layers or {}),
    ):
        for name, spec in wanted.items():
            if name in made:
                unlike += differences(made[name].identity, dict(spec.identity), f"{kind}.{name}")
            else:
                unlike.append(f"it holds no {kind} {name!r}, only {', '.join(made) or 'none'}")
    if unlike:
        raise StaleCacheError(
            f"the cache {cache.url} was made otherwise: {'; '.join(unlike)}; "
            "run `vdp precompute` with this recipe, or use the recipe that made the cache"
        )


def _reopen(url: str, number: int, snapshot_id: str, disk: DiskCache | None) -> Cache:
    cache = open_cache(url, snapshot=number, disk=disk)
    if cache.snapshot_id != snapshot_id:
        raise CorruptCacheError(f"snapshot {number} of {url} is not the one that was opened before")
    return cache
