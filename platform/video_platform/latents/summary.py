"""Say what a cache holds, from its small files alone."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from video_platform.latents.layer import SPEC, read_layer
from video_platform.latents.snapshots import Snapshot, list_snapshots, load_snapshot
from video_platform.storage import Store, open_store


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSummary:
    """What one layer holds, whatever source it came from."""

    folder: str
    """Where it lies under the root."""
    identity: Mapping[str, Any]
    """What it is bound to."""
    information: Mapping[str, Any]
    """What else is known of its making."""
    units: int
    """Committed units."""
    samples: int
    """Different samples that are stored, by the hash of their source."""
    rejects: Mapping[str, int]
    """How many were refused, by reason."""
    shards: int
    """Files of tensors."""
    size_bytes: int
    """Their size."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheSummary:
    """What a cache holds."""

    url: str
    """Where it lies."""
    sources: tuple[str, ...]
    """Hashes of the stored source manifests."""
    layers: tuple[LayerSummary, ...]
    """Sorted by folder."""
    snapshots: tuple[Snapshot, ...]
    """In the order of their numbers."""


def info(url: str) -> CacheSummary:
    """Read what a cache holds."""
    root = open_store(url)
    return CacheSummary(
        url=root.url,
        sources=tuple(key.split("/")[-1].split(".")[0] for key in root.list("sources")),
        layers=tuple(_layer(root, folder) for folder in layer_folders(root)),
        snapshots=tuple(load_snapshot(root, number) for number in list_snapshots(root)),
    )


def layer_folders(root: Store) -> list[str]:
    """List the layers of a cache."""
    return [
        key.removesuffix(f"/{SPEC}")
        for prefix in ("latent", "text", "clip")
        for key in root.list(prefix)
        if key.endswith(f"/{SPEC}")
    ]


def _layer(root: Store, folder: str) -> LayerSummary:
    layer = read_layer(root, folder)
    commits = layer.commits(layer.committed())
    shards = {key: shard for commit in commits for key, shard in commit.shards.items()}
    refused = {reject.source: reject.reason for commit in commits for reject in commit.rejects}
    return LayerSummary(
        folder=folder,
        identity=layer.spec.identity,
        information=layer.spec.information,
        units=len(commits),
        samples=len({entry.source for commit in commits for entry in commit.entries}),
        rejects=dict(sorted(Counter(refused.values()).items())),
        shards=len(shards),
        size_bytes=sum(shard.size_bytes for shard in shards.values()),
    )
