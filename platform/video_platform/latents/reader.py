"""Open a snapshot of the cache and read samples by position.

    cache = open_cache("outputs/cache")
    cache[0].mean            # (C, T, H, W), not normalised
    cache[0].text["words"]   # (L, D)

Every tensor is checked against its CRC when it is read. A cache may be pickled and read by several
threads; the copy opens the same snapshot again.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import torch

from video_platform.errors import CorruptCacheError, StaleCacheError
from video_platform.latents.layer import read_layer
from video_platform.latents.records import TensorRecord
from video_platform.latents.shard import unpack
from video_platform.latents.snapshots import Snapshot, load_index, load_snapshot
from video_platform.latents.spans import SpanReader
from video_platform.latents.spec import LayerSpec, differences
from video_platform.storage import Store, open_store
from video_platform.video.policy import ClipSize, PixelPolicy


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
    program: dict[str, Any] | None
    """Ground truth of a synthetic clip."""


class Cache:
    """A sequence of samples: one snapshot of a latent cache."""

    def __init__(self, root: Store, header: Snapshot) -> None:
        self.header = header
        self._root = root
        self._index = load_index(root, header)
        self._spans = SpanReader(root)

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
        mean, logvar = self._read(row.mean, row.logvar)
        return Sample(
            id=row.id,
            caption=row.caption,
            mean=mean,
            logvar=logvar,
            text={name: self._read(record)[0] for name, record in row.text.items()},
            program=json.loads(row.program) if row.program else None,
        )

    def empty_text(self, encoder: str) -> torch.Tensor:
        """Return the embedding (L, D) of the empty caption."""
        return self._read(self.header.empty_text[encoder])[0]

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
        return [tuple(map(int, name.split("x"))) for name in self._index.column("bucket")]

    @property
    def encoders(self) -> list[str]:
        """The text encoders whose embeddings it holds."""
        return sorted(self.header.text)

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
    def fingerprint(self) -> str:
        """Hash of what the latents are bound to."""
        return self.spec.fingerprint

    def _read(self, *records: TensorRecord) -> list[torch.Tensor]:
        """Read tensors of one shard that lie side by side, in one go."""
        start = min(record.offset for record in records)
        end = max(record.offset + record.length for record in records)
        data = self._spans.read(records[0].key, start, end)
        return [
            unpack(data[r.offset - start : r.offset - start + r.length], r, where=self.url)
            for r in records
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.url, self.snapshot, self.snapshot_id)


def open_cache(url: str, *, snapshot: int | None = None) -> Cache:
    """Open a snapshot of a cache; None is the newest.

    Raises:
        CacheError: there is no snapshot, or none of that number.
        CorruptCacheError: the snapshot is damaged.
    """
    root = open_store(url)
    return Cache(root, load_snapshot(root, snapshot))


def check_matches(
    cache: Cache,
    autoencoder_fingerprint: str,
    policy: PixelPolicy,
    sizes: Sequence[ClipSize] | None = None,
) -> None:
    """Check that a cache was made by this autoencoder of clips of this pixel policy.

    Args:
        cache: the cache.
        autoencoder_fingerprint: hash of the autoencoder's tensors.
        policy: how its pixels should have been made.
        sizes: the sizes that its clips may have; None is the policy's.

    Raises:
        StaleCacheError: it was not; the message names the fields that differ.
    """
    identity, held = cache.spec.identity, {*cache.header.sizes}
    allowed = {*(sizes or [policy.size])}
    made_by = {name: identity[name] for name in ("autoencoder", "pixels")}
    wanted = {"autoencoder": autoencoder_fingerprint, "pixels": policy.making}
    if not held <= allowed:
        made_by["sizes"] = ", ".join(map(str, sorted(held)))
        wanted["sizes"] = ", ".join(map(str, sorted(allowed)))
    unlike = differences(made_by, wanted)
    if unlike:
        raise StaleCacheError(
            f"the cache {cache.url} was made otherwise: {'; '.join(unlike)}; "
            "run `vdp precompute` with this recipe, or use the recipe that made the cache"
        )


def _reopen(url: str, number: int, snapshot_id: str) -> Cache:
    cache = open_cache(url, snapshot=number)
    if cache.snapshot_id != snapshot_id:
        raise CorruptCacheError(f"snapshot {number} of {url} is not the one that was opened before")
    return cache
