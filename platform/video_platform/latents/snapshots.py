"""Freeze what is committed into a snapshot: the one thing that training opens.

`snapshots/<n>.parquet` is written first and claims the number; `snapshots/<n>.json` names its hash,
is sealed itself, and makes the snapshot visible. Neither ever changes. The rows are sorted by
(bucket, id), so equal sources give equal orders however their units came to be.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from video_platform.datasets.record import Record
from video_platform.errors import CacheError, CorruptCacheError
from video_platform.latents.index import Index, Row, write_index
from video_platform.latents.layer import Layer, read_layer
from video_platform.latents.manifest import (
    Plan,
    caption_key,
    latent_units,
    load_manifest,
    load_plan,
    text_units,
)
from video_platform.latents.records import Commit, Entry, TensorRecord
from video_platform.latents.sealed import digest, seal, unseal
from video_platform.latents.units import Unit
from video_platform.storage import Store, open_store
from video_platform.video.policy import ClipSize


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
    clips: int
    """Number of samples."""
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
    index_sha256: str
    """SHA-256 of the Parquet file."""
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
    join = _Join(root, plan)
    missing = sum(layer.missing for layer in join.layers)
    if missing and not partial:
        raise CacheError(
            f"{missing} of {sum(layer.units for layer in join.layers)} units are not committed; "
            "run precompute again to finish them, or ask for a partial snapshot"
        )
    commits = [
        [layer.folder, dataclasses.asdict(c)] for layer in join.layers for c in layer.commits
    ]
    inputs = digest([plan.id, commits])
    return _find(root, inputs) or _freeze(root, join, inputs=inputs, missing=missing)


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
    return Snapshot(id=tree.pop("sha256"), **tree)


def load_index(root: Store, header: Snapshot) -> Index:
    """Read the table of a snapshot.

    Raises:
        CorruptCacheError: it is damaged.
    """
    key = f"snapshots/{header.number}.parquet"
    data = root.read(key)
    if hashlib.sha256(data).hexdigest() != header.index_sha256:
        raise CorruptCacheError(f"{key} is damaged: its content does not match its checksum")
    return Index(data, sorted(header.text))


class _Committed:
    """What is committed of the units of one layer."""

    def __init__(self, root: Store, folder: str, units: Sequence[Unit]) -> None:
        self.folder = folder
        self.units = len(units)
        layer: Layer = read_layer(root, folder)
        self.commits: list[Commit] = layer.commits(layer.committed() & {unit.id for unit in units})
        self.missing = self.units - len(self.commits)
        found = [entry for commit in self.commits for entry in commit.entries]
        self.entries: dict[str, Entry] = {entry.id: entry for entry in found}
        if len(self.entries) < len(found):
            raise CorruptCacheError(f"{folder}: two commits hold a sample of the same id")

    def place(self, sample: str, tensor: str) -> TensorRecord:
        """Return where a tensor lies, its key taken from the cache's root."""
        record = self.entries[sample].tensors[tensor]
        return dataclasses.replace(record, key=f"{self.folder}/{record.key}")


class _Join:
    """A plan's layers, joined by clip and caption."""

    def __init__(self, root: Store, plan: Plan) -> None:
        self.plan = plan
        self.records = load_manifest(root, plan.source)
        self.latent = _Committed(root, plan.latent, latent_units(self.records, plan.unit_size))
        units = text_units(self.records, plan.text_unit_size)
        self.text = {name: _Committed(root, plan.text[name], units) for name in sorted(plan.text)}

    @property
    def layers(self) -> list[_Committed]:
        """All layers, the latent one first."""
        return [self.latent, *self.text.values()]

    def rows(self) -> list[Row]:
        """Return every stored clip whose caption is stored too, sorted by (bucket, id)."""
        rows = [self._row(record) for record in self.records if self._is_stored(record)]
        return sorted(rows, key=lambda row: (row.bucket, row.id))

    def _is_stored(self, record: Record) -> bool:
        caption = caption_key(record.caption)
        return record.id in self.latent.entries and all(
            caption in layer.entries for layer in self.text.values()
        )

    def _row(self, record: Record) -> Row:
        caption = caption_key(record.caption)
        mean = self.latent.place(record.id, "mean")
        return Row(
            id=record.id,
            bucket="x".join(map(str, mean.shape)),
            caption=record.caption or "",
            program=json.dumps(record.program, sort_keys=True) if record.program else None,
            mean=mean,
            logvar=self.latent.place(record.id, "logvar"),
            text={name: layer.place(caption, "embedding") for name, layer in self.text.items()},
        )


def _freeze(root: Store, join: _Join, *, inputs: str, missing: int) -> Snapshot:
    """Write a new snapshot of what is committed."""
    rows = join.rows()
    rejects = Counter(reject.reason for c in join.latent.commits for reject in c.rejects)
    empty = caption_key("")
    if not rows or any(empty not in layer.entries for layer in join.text.values()):
        raise CacheError(
            f"{root.url} holds no clip of the source that could be frozen; "
            f"units missing: {missing}, rejects: {dict(rejects) or 'none'}"
        )
    index = write_index(rows, list(join.text))
    mean, std = _statistics([join.latent.entries[row.id] for row in rows])
    draft = Snapshot(
        number=0,
        inputs=inputs,
        plan=join.plan.id,
        source=join.plan.source,
        latent=join.plan.latent,
        text=dict(join.plan.text),
        clips=len(rows),
        sizes=tuple(sorted({record.size for record in join.records if record.size})),
        rejects=dict(sorted(rejects.items())),
        units=len(join.latent.commits),
        units_missing=missing,
        mean=mean,
        std=std,
        empty_text={name: layer.place(empty, "embedding") for name, layer in join.text.items()},
        index_sha256=hashlib.sha256(index).hexdigest(),
    )
    return _publish(root, draft, index)


def _statistics(entries: Sequence[Entry]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of all latent means, a number a channel."""
    count = sum(float(np.prod(entry.tensors["mean"].shape[1:])) for entry in entries)
    mean = np.sum([entry.channel_sum for entry in entries], axis=0) / count  # (C,)
    square = np.sum([entry.channel_square_sum for entry in entries], axis=0) / count
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return tuple(mean.tolist()), tuple(std.tolist())


def _find(root: Store, inputs: str) -> Snapshot | None:
    """Return the newest snapshot of the same inputs."""
    headers = (load_snapshot(root, number) for number in reversed(list_snapshots(root)))
    return next((header for header in headers if header.inputs == inputs), None)


def _publish(root: Store, draft: Snapshot, index: bytes) -> Snapshot:
    """Write a snapshot under the next free number; a number that somebody claimed is left."""
    number = max((_number(key) for key in root.list("snapshots")), default=0) + 1
    while not root.put_if_absent(f"snapshots/{number}.parquet", index):
        number += 1
    body: dict[str, Any] = dataclasses.asdict(dataclasses.replace(draft, number=number))
    del body["id"]
    root.put_if_absent(f"snapshots/{number}.json", seal(body))
    return load_snapshot(root, number)


def _number(key: str) -> int:
    return int(key.rsplit("/", 1)[-1].split(".")[0])
