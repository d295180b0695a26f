"""Write a snapshot of a cache in the formats of other trainers: `vdp cache export URL OUT`.

    export_cache(open_cache("outputs/cache"), "s3://bucket/mds", format="mds", shard_bytes=64 << 20)

A shard holds neighbouring samples, and where it begins follows from the snapshot; so a run that was
killed goes on with the shards that are missing. Every shard is put at once, and the index that
readers open comes last: an export that is not whole cannot be mistaken for one that is. Tensors
are checked against their CRC on the way and keep the precision in which they are stored.

`export.json` says what was exported: the cache and snapshot, what made the latents and embeddings,
and mean and standard deviation of the latents, which are not normalised.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from video_platform.config import pick
from video_platform.errors import CacheError
from video_platform.latents.export_format import ShardFormat, Written
from video_platform.latents.export_mds import MDS
from video_platform.latents.export_webdataset import WebDataset
from video_platform.latents.reader import Cache, StoredSample
from video_platform.latents.sealed import seal, unseal
from video_platform.latents.spec import LayerSpec, differences
from video_platform.storage import Store, open_store

FORMATS: dict[str, Callable[[StoredSample], ShardFormat]] = {"mds": MDS, "webdataset": WebDataset}
"""The formats by name; each is opened with the first sample."""
CARD = "export.json"
"""Says what was exported; written first."""
READERS = 8
"""Samples that are read at one time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """What was exported."""

    samples: int
    """Samples of the snapshot."""
    shards: int
    """Files of samples."""
    size_bytes: int
    """Their size."""
    written: int
    """Shards that this run wrote; the others were there."""


def export_cache(
    cache: Cache,
    out: str,
    *,
    format: str,
    shard_bytes: int,
    on_shard: Callable[[int, int], None] = lambda done, shards: None,
) -> Export:
    """Write all samples of a snapshot, in its order.

    Args:
        cache: the snapshot.
        out: a folder or an `s3://` URL, empty or with the beginning of the same export.
        format: one of `FORMATS`.
        shard_bytes: most bytes of tensors in a shard; a larger sample has one to itself.
        on_shard: is told after each shard how many there are and will be.

    Raises:
        CacheError: `out` holds another export, or a sample does not fit the format.
        CorruptCacheError: stored bytes are not what was written.
    """
    open_format = pick(FORMATS, format, "format")
    if shard_bytes < 1:
        raise CacheError(f"shard_bytes = {shard_bytes!r}; it must be at least 1")
    first = cache.stored(0)
    layout, root = open_format(first), open_store(out)
    _claim(root, _card(cache, first) | {"format": format, "shard_bytes": shard_bytes})
    parts = list(_parts(cache, shard_bytes))
    there, shards, written = root.scan(), [], 0
    for number, part in enumerate(parts):
        name = layout.name(number)
        if name in there:
            data = root.read(name)
        else:
            data = layout.shard(_read(cache, part), part.start)
            root.put(name, data)
            written += 1
        sha256 = hashlib.sha256(data).hexdigest()
        shards.append(Written(name=name, samples=len(part), size_bytes=len(data), sha256=sha256))
        on_shard(number + 1, len(parts))
    root.put(*layout.index(shards))
    size_bytes = sum(shard.size_bytes for shard in shards)
    return Export(samples=len(cache), shards=len(shards), size_bytes=size_bytes, written=written)


def _card(cache: Cache, first: StoredSample) -> dict[str, Any]:
    """Say what is exported."""
    header = cache.header
    bfloat16 = [n for n, t in first.tensors.items() if t.dtype == torch.bfloat16]
    return {
        "cache": cache.url,
        "snapshot": header.number,
        "snapshot_id": header.id,
        "samples": len(cache),
        "bfloat16": sorted(bfloat16),
        "mean": list(header.mean),
        "std": list(header.std),
        "latent": _identity(cache.spec),
        "text": {name: _identity(spec) for name, spec in cache.text_specs.items()},
    }


def _identity(spec: LayerSpec) -> dict[str, Any]:
    return {"fingerprint": spec.fingerprint, "identity": dict(spec.identity)}


def _claim(root: Store, card: dict[str, Any]) -> None:
    """Write down what is exported, or check that it was the same before.

    Raises:
        CacheError: it was not.
    """
    if root.put_if_absent(CARD, seal(card)):
        return
    held = unseal(root.read(CARD), f"{root.url}/{CARD}")
    held.pop("sha256")
    unlike = differences(held, card)
    if unlike:
        raise CacheError(
            f"{root.url} holds another export: {'; '.join(unlike)}; choose another folder"
        )


def _parts(cache: Cache, shard_bytes: int) -> Iterator[range]:
    """Yield the places of each shard: as many as fit, at least one."""
    ends = np.cumsum(cache.sizes_bytes())
    start = done = 0
    while start < len(ends):
        end = int(np.searchsorted(ends, done + shard_bytes, side="right"))
        end = max(end, start + 1)
        yield range(start, end)
        start, done = end, int(ends[end - 1])


def _read(cache: Cache, places: range) -> Iterator[StoredSample]:
    """Yield samples in order, some of them read ahead."""
    with ThreadPoolExecutor(READERS) as threads:
        yield from threads.map(cache.stored, places)
