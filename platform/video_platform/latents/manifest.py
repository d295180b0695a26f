"""The source as it was when the cache was filled, and what a snapshot is to join.

A source manifest is a list of records, stored under the hash of its bytes. A plan names a manifest
and the layers made of it; from these two every unit follows, so that a snapshot never depends on
what else lies in the cache.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from video_platform.datasets.record import Record
from video_platform.errors import CacheError, CorruptCacheError
from video_platform.latents.sealed import canonical_json, digest, seal, unseal
from video_platform.latents.units import Member, Unit, partition
from video_platform.storage import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Which source and which layers belong together."""

    source: str
    """Hash of the source manifest, 16 digits."""
    latent: str
    """Folder of the latent layer."""
    text: Mapping[str, str]
    """Folder of the text layer of each encoder, by name."""
    unit_size: int
    """Most clips in a unit."""
    text_unit_size: int
    """Most captions in a unit."""

    @property
    def id(self) -> str:
        """Hash of the plan, 16 digits."""
        return digest(dataclasses.asdict(self))[:16]

    def save(self, root: Store) -> None:
        """Store the plan; a plan that is there already becomes the newest again."""
        root.put(f"plans/{self.id}.json", seal(dataclasses.asdict(self)))


def load_plan(root: Store, plan_id: str | None = None) -> Plan:
    """Read a plan; None is the one that `precompute` used last.

    Raises:
        CacheError: there is no such plan.
    """
    plans = root.scan("plans")
    if plan_id is None:
        key = max(plans, key=lambda key: (plans[key].modified_s, key), default=None)
    else:
        key = f"plans/{plan_id}.json"
    if key is None or key not in plans:
        known = ", ".join(sorted(key.removeprefix("plans/") for key in plans)) or "none"
        raise CacheError(f"{root.url} has no plan {plan_id or ''}; known: {known}")
    tree = unseal(root.read(key), key)
    return Plan(**{field.name: tree[field.name] for field in dataclasses.fields(Plan)})


def save_manifest(root: Store, records: Sequence[Record]) -> str:
    """Store the records of a source and return their hash, 16 digits."""
    rows = sorted(records, key=lambda record: record.id)
    data = b"".join(canonical_json(dataclasses.asdict(row)) + b"\n" for row in rows)
    name = hashlib.sha256(data).hexdigest()[:16]
    root.put_if_absent(f"sources/{name}.jsonl", data)
    return name


def load_manifest(root: Store, name: str) -> list[Record]:
    """Read the records of a stored source, sorted by id.

    Raises:
        CorruptCacheError: the manifest is not what was stored.
    """
    key = f"sources/{name}.jsonl"
    data = root.read(key)
    if hashlib.sha256(data).hexdigest()[:16] != name:
        raise CorruptCacheError(f"{key} is damaged: its content does not match its name")
    return [Record.from_json(json.loads(line)) for line in data.splitlines()]


def latent_units(records: Sequence[Record], size: int) -> list[Unit]:
    """Split the clips of a source into units; captions play no part."""
    members = (Member(record.id, _source(record), record.file or "") for record in records)
    return partition(members, size)


def text_units(records: Sequence[Record], size: int) -> list[Unit]:
    """Split the captions of a source into units, each caption once and the empty one always."""
    return partition((Member(key, key) for key in captions(records)), size)


def captions(records: Sequence[Record]) -> dict[str, str]:
    """Return the captions of a source by their SHA-256, the empty one among them."""
    texts = {"", *(record.caption or "" for record in records)}
    return {caption_key(text): text for text in sorted(texts)}


def caption_key(caption: str | None) -> str:
    """Return the name of a caption in a text layer; a clip without one has the empty caption."""
    return hashlib.sha256((caption or "").encode()).hexdigest()


def _source(record: Record) -> str:
    """Hash where a clip's pixels come from; its id, caption and program play no part."""
    fields: dict[str, Any] = dataclasses.asdict(record)
    names = ("url", "key", "offset", "size_bytes", "identity", "start_s", "size")
    return digest({name: fields[name] for name in names})[:32]
