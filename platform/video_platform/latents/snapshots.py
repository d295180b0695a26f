"""Freeze what is committed into a snapshot: the one thing that training opens.

The index lies in `snapshots/data/`, in files that are named by their content; `snapshots/<n>.json`
names their hashes, is sealed itself, claims the number and makes the snapshot visible. Neither ever
changes. The rows are sorted by (bucket, id), so equal sources give equal orders however their units
came to be.
"""

import dataclasses
import logging
from collections.abc import Mapping, Set
from typing import Any

from video_platform.errors import CacheError, CorruptCacheError
from video_platform.latents.index import Index, IndexFile, IndexFiles, write_table
from video_platform.latents.join import Join
from video_platform.latents.manifest import Plan, load_plan
from video_platform.latents.records import TensorRecord
from video_platform.latents.sealed import digest, seal, unseal
from video_platform.latents.spans import SpanReader
from video_platform.storage import Store, open_store
from video_platform.video.policy import ClipSize

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The header of a snapshot."""

    number: int
    """Its number in the cache, from 1."""
    inputs: str
    """Hash of the plan and of every commit that went in; equal inputs are not frozen twice."""
    plan: str
    """Hash of the plan."""
    source: str
    """Hash of the source manifest."""
    latent: str
    """Folder of the latent layer."""
    text: Mapping[str, str]
    """Folder of the text layer of each encoder."""
    clip: Mapping[str, str]
    """Folder of each further layer, by name."""
    clips: int
    """Number of samples."""
    buckets: Mapping[str, int]
    """How many samples have latents of each shape, in the order of the rows."""
    sizes: tuple[ClipSize, ...]
    """Sizes at which the clips of the source are decoded, sorted."""
    rejects: Mapping[str, int]
    """How many clips of the source were refused, by reason."""
    units: int
    """Committed units that went in, of the latent layer."""
    units_missing: int
    """Units of the source, over all layers, that were not committed; above 0 it is partial."""
    mean: tuple[float, ...]
    """Mean of the latent means, a number a channel."""
    std: tuple[float, ...]
    """Standard deviation of the latent means, a number a channel."""
    empty_text: Mapping[str, TensorRecord]
    """The embedding of the empty caption, by encoder."""
    index: IndexFiles
    """The files of the index, with their hashes."""
    id: str = ""
    """SHA-256 of all of the above, and through it of every tensor's checksum: the root hash."""


def snapshot(url: str, *, plan: str | None = None, partial: bool = False) -> Snapshot:
    """Freeze what is committed of a plan.

    Args:
        url: the cache.
        plan: the hash of a plan; None is the one that `precompute` used last.
        partial: whether units may be missing.

    Returns:
        the snapshot, which may be one that was there already.

    Raises:
        CacheError: units are missing and `partial` is off, or nothing at all is committed.
    """
    root = open_store(url)
    return take_snapshot(root, load_plan(root, plan), partial=partial)


def take_snapshot(root: Store, plan: Plan, *, partial: bool = False) -> Snapshot:
    """Freeze what is committed of a plan; see `snapshot`."""
    join = Join(root, plan)
    missing = sum(layer.missing for layer in join.layers)
    if missing and not partial:
        units = missing + sum(len(layer.commits) for layer in join.layers)
        raise CacheError(
            f"{missing} of {units} units are not committed; "
            "run precompute again to finish them, or ask for a partial snapshot"
        )
    earlier = _newest_of(root, plan)
    join.read(_sound_index(root, earlier) if earlier else None)
    inputs = digest([plan.id, join.commits()])
    found = _find(root, inputs)
    if found and _sound_index(root, found):
        return found
    headers = [header for header in (earlier, found) if header]
    named = {file.key for header in headers for file in header.index.all}
    draft = _freeze(root, join, inputs=inputs, missing=missing, named=named)
    mended = found if found and found.index == draft.index else None
    return mended or _publish(root, draft)


def list_snapshots(root: Store) -> list[int]:
    """Return the numbers of the snapshots of a cache, in order."""
    return sorted(_number(key) for key in root.list("snapshots") if key.endswith(".json"))


def load_snapshot(root: Store, number: int | None = None) -> Snapshot:
    """Read the header of a snapshot; None is the newest.

    Raises:
        CacheError: there is none of that number.
        CorruptCacheError: it is damaged.
    """
    numbers = list_snapshots(root)
    if not numbers:
        raise CacheError(f"there is no snapshot in {root.url}; run `vdp precompute` first")
    if number is None:
        number = numbers[-1]
    if number not in numbers:
        raise CacheError(f"there is no snapshot {number} in {root.url}; there are {numbers}")
    key = f"snapshots/{number}.json"
    tree = unseal(root.read(key), key)
    places = {name: TensorRecord.from_json(t) for name, t in tree["empty_text"].items()}
    tree |= {"empty_text": places, "mean": tuple(tree["mean"]), "std": tuple(tree["std"])}
    tree |= {"sizes": tuple(ClipSize(*size) for size in tree["sizes"])}
    tree |= {"index": IndexFiles.from_json(tree["index"]), "buckets": dict(tree["buckets"])}
    return Snapshot(id=tree.pop("sha256"), **tree)


def load_index(root: Store, header: Snapshot, spans: SpanReader | None = None) -> Index:
    """Open the table of a snapshot; its files are checked when they are first used.

    Args:
        root: the cache.
        header: the snapshot.
        spans: reads the files; None maps them, or reads them into memory where they are remote.
    """
    reader = spans or SpanReader(root)

    def fetch(file: IndexFile, again: bool) -> Any:
        if again:
            reader.forget_whole(file.key)
        return reader.read_whole(file.key, file.size_bytes)

    return Index(header.index, fetch)


def _freeze(root: Store, join: Join, *, inputs: str, missing: int, named: Set[str]) -> Snapshot:
    """Write what is committed, and return its header; other headers name the files in `named`."""
    buckets, rejects = join.buckets(), join.rejects()
    empty = {name: join.empty_text(name) for name in join.text}
    empty_text = {name: record for name, record in empty.items() if record is not None}
    if not buckets or len(empty_text) < len(empty):
        raise CacheError(
            f"{root.url} holds no clip of the source that could be frozen; "
            f"units missing: {missing}, rejects: {rejects or 'none'}"
        )
    mean, std = join.statistics()
    return Snapshot(
        number=0,
        inputs=inputs,
        plan=join.plan.id,
        source=join.plan.source,
        latent=join.plan.latent,
        text=dict(join.plan.text),
        clip=dict(join.plan.clip),
        clips=sum(buckets.values()),
        buckets=buckets,
        sizes=join.source.sizes,
        rejects=rejects,
        units=len(join.latent.commits),
        units_missing=missing,
        mean=mean,
        std=std,
        empty_text=empty_text,
        index=_write_index(root, join, named),
    )


def _write_index(root: Store, join: Join, named: Set[str]) -> IndexFiles:
    """Write the files of an index; headers name those in `named`."""
    return IndexFiles(
        rows=tuple(write_table(root, part, named=named) for part in join.parts()),
        shards=write_table(root, join.shards, named=named),
        units=write_table(root, join.units(*join.layers), named=named),
        rest=write_table(root, join.rest, named=named),
    )


def _sound_index(root: Store, earlier: Snapshot) -> Index | None:
    """Open the table of an earlier snapshot; nothing where any of it is damaged."""
    index = load_index(root, earlier)
    try:
        index.check()
    except CorruptCacheError as error:
        log.warning(
            "every commit is read, since snapshot %d is of no use: %s", earlier.number, error
        )
        return None
    return index


def _newest_of(root: Store, plan: Plan) -> Snapshot | None:
    """Return the newest snapshot of the same latents."""
    headers = (load_snapshot(root, number) for number in reversed(list_snapshots(root)))
    return next((header for header in headers if header.latent == plan.latent), None)


def _find(root: Store, inputs: str) -> Snapshot | None:
    """Return the newest snapshot of the same inputs."""
    headers = (load_snapshot(root, number) for number in reversed(list_snapshots(root)))
    return next((header for header in headers if header.inputs == inputs), None)


def _publish(root: Store, draft: Snapshot) -> Snapshot:
    """Write a snapshot under the next free number."""
    number = max(list_snapshots(root), default=0) + 1
    while True:
        body: dict[str, Any] = dataclasses.asdict(dataclasses.replace(draft, number=number))
        del body["id"]
        if root.put_if_absent(f"snapshots/{number}.json", seal(body)):
            return load_snapshot(root, number)
        number += 1


def _number(key: str) -> int:
    return int(key.rsplit("/", 1)[-1].split(".")[0])
