"""One layer of the cache: its SPEC, its commits, and the one way to add a unit.

A unit's shards are written first and its commit last, both put-if-absent. A writer that dies in
between leaves a shard that nobody names; of two writers of one unit the first commit wins. So
every sample is stored exactly once, whatever happens, and no lock is needed.

A commit names no shards but those that its own writer has just made, and those that an earlier
commit names. So a shard that is old and that no commit names will never be named: `gc.py` may
remove it while jobs run.
"""

import contextlib
import dataclasses
import hashlib
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from video_platform.errors import CacheError, StorageError
from video_platform.latents.records import Commit, Entry, Reject, Shard, TensorRecord
from video_platform.latents.sealed import seal, unseal
from video_platform.latents.shard import describe, pack
from video_platform.latents.spec import LayerSpec, differences
from video_platform.latents.units import Member, Unit
from video_platform.storage import MissingKeyError, Store

SPEC = "SPEC.json"
READERS = 16
"""Threads that read commits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoded:
    """One sample of a layer, not yet stored."""

    member: Member
    """Which sample."""
    tensors: Mapping[str, torch.Tensor]
    """By name, in the precision in which they are stored."""
    bucket: str
    """Samples of one bucket share shards."""
    decoder: str = ""
    """What made its pictures, and why; empty where that is not known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """What earlier commits of a layer hold of a unit's samples, by the hash of their source."""

    done: Mapping[str, Entry | Reject] = dataclasses.field(default_factory=dict)
    """By `Member.source`."""
    shards: Mapping[str, Shard] = dataclasses.field(default_factory=dict)
    """Every shard that those entries use."""

    def of(self, unit: Unit) -> "Known":
        """Return the part that concerns one unit."""
        done = {m.source: self.done[m.source] for m in unit.members if m.source in self.done}
        keys = {t.key for e in done.values() if isinstance(e, Entry) for t in e.tensors.values()}
        return Known(done=done, shards={key: self.shards[key] for key in keys})


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer in a store; may be pickled."""

    store: Store
    """Rooted at the layer's folder."""
    spec: LayerSpec
    """What it is bound to."""

    def committed(self) -> set[str]:
        """List the units that are done."""
        keys = self.store.list("commits")
        return {key.rsplit("/", 1)[-1][:-5] for key in keys if key.endswith(".json")}

    def commit(self, unit_id: str) -> Commit:
        """Read one commit.

        Raises:
            CorruptCacheError: it is damaged.
        """
        key = f"commits/{unit_id}.json"
        return Commit.from_bytes(self.store.read(key), f"{self.spec.folder}/{key}")

    def commits(self, unit_ids: Iterable[str]) -> list[Commit]:
        """Read many commits, in the order of their ids."""
        with ThreadPoolExecutor(READERS) as threads:
            return list(threads.map(self.commit, sorted(unit_ids)))

    def known(self, unit_ids: Iterable[str]) -> Known:
        """Gather what the commits of some units hold, so that none of it is made again."""
        done: dict[str, Entry | Reject] = {}
        shards: dict[str, Shard] = {}
        for commit in self.commits(unit_ids):
            done |= {entry.source: entry for entry in commit.entries}
            done |= {reject.source: reject for reject in commit.rejects}
            shards.update(commit.shards)
        return Known(done=done, shards=shards)

    def write(
        self,
        unit: Unit,
        encoded: Sequence[Encoded],
        *,
        rejects: Sequence[Reject] = (),
        known: Known | None = None,
    ) -> bool:
        """Store a unit, every member of it encoded, rejected or known, and commit it.

        Returns:
            whether this call committed it; False says that another writer was first.
        """
        known = known or Known()
        shards = dict(known.shards)
        entries, refused = _adopt(unit, known)
        for bucket, group in sorted(_by_bucket(encoded).items()):
            key, shard, records = self._write_shard(unit, bucket, group)
            shards[key] = shard
            entries += [_entry(item, record) for item, record in zip(group, records, strict=True)]
        refused += rejects
        present = sorted([entry.id for entry in entries] + [reject.id for reject in refused])
        if present != [member.id for member in unit.members]:
            raise ValueError(f"unit {unit.id} is not whole: {present}")
        commit = Commit(
            unit=unit.id,
            entries=tuple(sorted(entries, key=lambda entry: entry.id)),
            rejects=tuple(sorted(refused, key=lambda reject: reject.id)),
            shards=shards,
        )
        return self.store.put_if_absent(f"commits/{unit.id}.json", commit.to_bytes())

    def _write_shard(
        self, unit: Unit, bucket: str, group: Sequence[Encoded]
    ) -> tuple[str, Shard, list[dict[str, TensorRecord]]]:
        """Write one bucket of a unit; tensors of one sample lie side by side."""
        names = [f"{place:05d}/{item.member.id}" for place, item in enumerate(group)]
        tensors = {
            f"{name}/{part}": tensor
            for name, item in zip(names, group, strict=True)
            for part, tensor in item.tensors.items()
        }
        key, data, records = pack(tensors, bucket=bucket, unit=unit.id)
        while not _put_content(self.store, key, data):
            salt = secrets.token_hex(8)
            key, data, records = pack(tensors, bucket=bucket, unit=unit.id, salt=salt)
        return (
            key,
            describe(data),
            [
                {part: records[f"{name}/{part}"] for part in item.tensors}
                for name, item in zip(names, group, strict=True)
            ],
        )


def open_layer(root: Store, spec: LayerSpec) -> Layer:
    """Open a layer of a cache, creating it if it is new; the first SPEC is kept.

    Raises:
        CacheError: the folder is taken by a layer of another identity.
    """
    store = root.child(spec.folder)
    store.put_if_absent(SPEC, seal(spec.to_json()))
    found = read_layer(root, spec.folder)
    unlike = differences(found.spec.identity, dict(spec.identity))
    if unlike:
        raise CacheError(f"{store.url} belongs to another layer: {'; '.join(unlike)}")
    return found


def find_layer(root: Store, spec: LayerSpec) -> Layer | None:
    """Open a layer if it exists."""
    return open_layer(root, spec) if root.child(spec.folder).exists(SPEC) else None


def read_layer(root: Store, folder: str) -> Layer:
    """Open a layer that exists, by its folder under the root."""
    store = root.child(folder)
    return Layer(store, LayerSpec.from_json(unseal(store.read(SPEC), f"{folder}/{SPEC}")))


def _put_content(store: Store, key: str, data: bytes) -> bool:
    """Store content under its own hash, and say whether it was us who did.

    Where the name is taken, another writer died or was as fast: what it left may be cleared away
    at any time, so it is not ours to name. If it is damaged it is mended for those who do name it.

    Raises:
        StorageError: the store does not hold it afterwards.
    """
    if not store.put_if_absent(key, data):
        with contextlib.suppress(MissingKeyError):  # it has just been cleared away
            if hashlib.sha256(store.read(key)).digest() != hashlib.sha256(data).digest():
                store.put(key, data)
        return False
    size = store.stat(key).size_bytes
    if size != len(data):
        raise StorageError(f"{store.url} holds {size} bytes of {key}, {len(data)} were written")
    return True


def _adopt(unit: Unit, known: Known) -> tuple[list[Entry], list[Reject]]:
    """Return what is known of a unit's members, under their present ids."""
    entries, rejects = [], []
    for member in unit.members:
        item = known.done.get(member.source)
        if isinstance(item, Entry):
            entries.append(dataclasses.replace(item, id=member.id))
        elif item is not None:
            rejects.append(dataclasses.replace(item, id=member.id))
    return entries, rejects


def _by_bucket(encoded: Sequence[Encoded]) -> dict[str, list[Encoded]]:
    groups: dict[str, list[Encoded]] = defaultdict(list)
    for item in sorted(encoded, key=lambda item: item.member.id):
        groups[item.bucket].append(item)
    return groups


def _entry(item: Encoded, records: Mapping[str, TensorRecord]) -> Entry:
    """Describe a stored sample; the statistics are those of what was stored."""
    mean = item.tensors.get("mean")
    sums: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    if mean is not None:
        flat = mean.double().flatten(1)  # (C, THW)
        sums, squares = tuple(flat.sum(1).tolist()), tuple(flat.square().sum(1).tolist())
    return Entry(
        id=item.member.id,
        source=item.member.source,
        tensors=records,
        channel_sum=sums,
        channel_square_sum=squares,
        decoder=item.decoder,
    )
