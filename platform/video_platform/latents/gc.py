"""Remove what nothing in a cache names: `vdp cache gc URL`.

A writer that dies, or comes second, leaves shards that no commit names; one that dies while it
freezes a snapshot leaves files of an index; both may leave half a file that no listing shows.

This is safe while jobs run. Files are listed first and commits read afterwards, and a commit or a
snapshot never names a file that an earlier writer left behind (see `layer.py`). So what is old and
unnamed stays unnamed, unless its own writer has slept between its two steps for all that time.
"""

import dataclasses
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor

from video_platform.errors import CacheError, CorruptCacheError
from video_platform.latents.audit import LAYOUT
from video_platform.latents.layer import Layer, read_layer
from video_platform.latents.records import read_columns
from video_platform.latents.snapshots import list_snapshots, load_index, load_snapshot
from video_platform.latents.summary import layer_folders
from video_platform.storage import Store, open_store

DAY_S = 86_400.0
LEAST_AGE_S = 3600.0
"""No writer takes longer from its first shard to its commit."""
THREADS = 16
"""Commits that are read, and files that are removed, at one time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Litter:
    """One file that nothing names."""

    key: str
    """Its place in the cache; of half a file, what the store calls it."""
    size_bytes: int | None
    """Its size; None of half a file."""
    age_s: float
    """How old it is, by the store's clock."""


def collect_garbage(
    url: str, *, older_than_s: float = 7 * DAY_S, dry_run: bool = False
) -> list[Litter]:
    """Remove what no commit of any layer and no snapshot names, if it is old.

    Args:
        url: the cache.
        older_than_s: how old at least, by the store's clock.
        dry_run: only say what would be removed.

    Returns:
        what was removed, sorted by key.

    Raises:
        CacheError: there is no cache, or `older_than_s` is too short to be safe.
        CorruptCacheError: something that may name a file cannot be read; nothing is removed.
    """
    if older_than_s < LEAST_AGE_S:
        raise CacheError(
            f"files younger than {LEAST_AGE_S:g} s may be in the making; "
            f"older_than_s (--older-than) is {older_than_s:g}"
        )
    root = open_store(url)
    unfinished, files = root.unfinished(), root.scan()  # before the commits are read
    if not any(LAYOUT.fullmatch(key) for key in files):
        raise CacheError(f"{root.url} holds no latent cache")
    named = _named(root)
    now_s = root.clock()
    found = [
        Litter(key=key, size_bytes=stat.size_bytes, age_s=now_s - stat.modified_s)
        for key, stat in files.items()
        if "/data/" in key and LAYOUT.fullmatch(key) and key not in named
    ]
    halves = [
        Litter(key=name, size_bytes=None, age_s=now_s - begun_s)
        for name, begun_s in unfinished.items()
    ]
    old = [item for item in found + halves if item.age_s > older_than_s]
    if not dry_run:
        _remove(root, old)
    return sorted(old, key=lambda item: item.key)


def _named(root: Store) -> Set[str]:
    """Return every file that a commit or a snapshot names."""
    named: set[str] = set()
    try:
        for folder in layer_folders(root):
            named.update(f"{folder}/{key}" for key in _shards(read_layer(root, folder)))
        for number in list_snapshots(root):
            header = load_snapshot(root, number)
            named.update(file.key for file in header.index.all)
            named.update(load_index(root, header).shards.to_pylist())
    except CorruptCacheError as error:
        raise CorruptCacheError(
            f"{error}; nothing was removed, since it may name any file: see `vdp cache verify`"
        ) from error
    return named


def _shards(layer: Layer) -> Iterator[str]:
    """Yield the shards that the commits of a layer name, some of them often."""

    def read(unit: str) -> list[str]:
        key = f"commits/{unit}.json"
        return list(read_columns(layer.store.read(key), f"{layer.spec.folder}/{key}")["shards"])

    with ThreadPoolExecutor(THREADS) as threads:
        for shards in threads.map(read, sorted(layer.committed())):
            yield from shards


def _remove(root: Store, litter: list[Litter]) -> None:
    def remove(item: Litter) -> None:
        if item.size_bytes is None:
            root.discard(item.key)
        else:
            root.delete(item.key)

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(remove, litter))
