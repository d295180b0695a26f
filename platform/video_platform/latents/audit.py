"""Read a whole cache and check every byte of it against what was written down.

Harmful findings are damage: something that is named is missing, cut short or changed. The others
are harmless: shards that no commit names (a writer died, or came second), and files that are none
of ours.
"""

import dataclasses
import hashlib
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Literal

from video_platform.errors import CacheError, CorruptCacheError
from video_platform.latents.layer import Layer, read_layer
from video_platform.latents.manifest import load_manifest, load_plan
from video_platform.latents.records import Commit, Shard, TensorRecord
from video_platform.latents.snapshots import list_snapshots, load_index, load_snapshot
from video_platform.latents.summary import layer_folders
from video_platform.storage import MissingKeyError, Store, open_store

Kind = Literal["missing", "truncated", "changed", "damaged", "orphan", "foreign"]

LAYOUT = re.compile(
    r"sources/[0-9a-f]{16}\.jsonl|plans/[0-9a-f]{16}\.json|snapshots/\d+\.(json|parquet)"
    r"|(latent|text/[^/]+)/[0-9a-f]{16}/"
    r"(SPEC\.json|commits/[0-9a-f]{16}\.json|data/[^/]+/[0-9a-f]{16}-[0-9a-f]{16}\.safetensors)"
)
"""Every key that belongs in a cache."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    kind: Kind
    """`missing`, `truncated`, `changed` or `damaged` do harm; `orphan` and `foreign` do not."""
    key: str
    """The file."""
    message: str
    """What is wrong, and how to mend it."""

    @property
    def harmful(self) -> bool:
        """Whether stored samples are affected."""
        return self.kind not in ("orphan", "foreign")


@dataclasses.dataclass
class _Claim:
    """What the commits of a layer say of one shard."""

    shard: Shard
    commits: list[str] = dataclasses.field(default_factory=list)
    tensors: dict[int, TensorRecord] = dataclasses.field(default_factory=dict)


def verify(url: str, *, snapshot: int | None = None) -> list[Finding]:
    """Check a cache, or only what one snapshot needs; an empty list is a clean bill.

    Raises:
        CacheError: there is no cache, or no such snapshot.
    """
    root = open_store(url)
    if snapshot is not None:
        return list(_verify_snapshot(root, snapshot, set()))
    keys = root.list()
    if not any(LAYOUT.fullmatch(key) for key in keys):
        raise CacheError(f"{root.url} holds no latent cache")
    findings = [*_verify_small_files(root, keys)]
    named: set[str] = set()
    for folder in layer_folders(root):
        findings += _verify_layer(root, folder, keys, named)
    for number in list_snapshots(root):
        findings += _verify_snapshot(root, number, named)
    return findings + _litter(keys, named, damaged=any(finding.harmful for finding in findings))


def _litter(keys: Iterable[str], named: Set[str], *, damaged: bool) -> list[Finding]:
    """List the files that nothing needs."""
    advice = "mend the damage first" if damaged else "it may be deleted when nothing is writing"
    foreign = [key for key in keys if not LAYOUT.fullmatch(key)]
    orphans = [key for key in keys if "/data/" in key and key not in named]
    return [
        Finding(kind="orphan", key=key, message=f"nothing that can be read names it; {advice}")
        for key in orphans
        if key not in foreign
    ] + [Finding(kind="foreign", key=key, message="it is none of the cache's") for key in foreign]


def _verify_small_files(root: Store, keys: Iterable[str]) -> Iterator[Finding]:
    """Check manifests and plans against their hashes."""
    for key in keys:
        name = key.rsplit("/", 1)[-1].split(".")[0]
        try:
            if key.startswith("sources/"):
                load_manifest(root, name)
            elif key.startswith("plans/"):
                load_plan(root, name)
        except CorruptCacheError as error:
            yield Finding(kind="damaged", key=key, message=str(error))


def _verify_snapshot(root: Store, number: int, checked: set[str]) -> Iterator[Finding]:
    """Check that all that a snapshot names is there and unchanged.

    Shards in `checked` are only looked for; the others are read, and added to it.
    """
    key = f"snapshots/{number}.json"
    try:
        header = load_snapshot(root, number)
        index = load_index(root, header)
    except (CorruptCacheError, MissingKeyError) as error:
        yield Finding(kind="damaged", key=key, message=f"{error}; take another snapshot")
        return
    places: dict[str, dict[int, TensorRecord]] = defaultdict(dict)
    for row in (index[place] for place in range(len(index))):
        for record in (row.mean, row.logvar, *row.text.values(), *header.empty_text.values()):
            places[record.key][record.offset] = record
    hint = (
        f"snapshot {number} needs it; delete the snapshot unless a commit that can be redone does"
    )
    for shard, records in sorted(places.items()):
        if not root.exists(shard):
            yield Finding(kind="missing", key=shard, message=f"it is not there; {hint}")
        elif shard not in checked:
            for kind, message in _compare_tensors(root.read(shard), records.values()):
                yield Finding(kind=kind, key=shard, message=f"{message}; {hint}")
        checked.add(shard)


def _verify_layer(
    root: Store, folder: str, keys: Sequence[str], named: set[str]
) -> Iterator[Finding]:
    """Check one layer; the shards that its commits name are added to `named`."""
    try:
        layer = read_layer(root, folder)
        if layer.spec.folder != folder:
            raise CorruptCacheError(f"its identity belongs into {layer.spec.folder}")
    except CorruptCacheError as error:
        yield Finding(kind="damaged", key=f"{folder}/SPEC.json", message=str(error))
        return
    claims: dict[str, _Claim] = {}
    for unit in sorted(layer.committed()):
        commit = _read_commit(layer, unit)
        if isinstance(commit, Finding):
            yield commit
            continue
        for key, shard in commit.shards.items():
            claims.setdefault(key, _Claim(shard)).commits.append(f"{folder}/commits/{unit}.json")
        for record in (tensor for entry in commit.entries for tensor in entry.tensors.values()):
            claims[record.key].tensors[record.offset] = record
    named |= {f"{folder}/{key}" for key in claims}
    present = set(keys)
    for key, claim in sorted(claims.items()):
        full = f"{folder}/{key}"
        data = root.read(full) if full in present else None
        for kind, message in _compare(data, claim):
            yield Finding(kind=kind, key=full, message=f"{message}; {_mend(claim.commits)}")


def _read_commit(layer: Layer, unit: str) -> Commit | Finding:
    try:
        return layer.commit(unit)
    except CorruptCacheError as error:
        key = f"{layer.spec.folder}/commits/{unit}.json"
        message = f"{error}; delete it and run precompute again, which redoes this unit"
        return Finding(kind="damaged", key=key, message=message)


def _compare(data: bytes | None, claim: _Claim) -> Iterator[tuple[Kind, str]]:
    """Compare a file with what the commits say of it."""
    if data is None:
        yield "missing", "it is not there"
    elif len(data) != claim.shard.size_bytes:
        yield "truncated", f"it has {len(data)} of {claim.shard.size_bytes} bytes"
    elif hashlib.sha256(data).hexdigest() != claim.shard.sha256:
        found = list(_compare_tensors(data, claim.tensors.values()))
        yield from found or [("changed", "its header or padding is changed")]


def _compare_tensors(data: bytes, records: Iterable[TensorRecord]) -> Iterator[tuple[Kind, str]]:
    """Compare the tensors of a file with their checksums."""
    for record in records:
        end = record.offset + record.length
        if len(data) < end:
            yield "truncated", f"it has {len(data)} bytes, a tensor ends at {end}"
            return
        if zlib.crc32(data[record.offset : end]) != record.crc32:
            yield "changed", f"bytes {record.offset} to {end} do not match their checksum"


def _mend(commits: Iterable[str]) -> str:
    """Say how a shard is made again: when its commits are gone, its units are not done."""
    return f"delete {' and '.join(commits)}, then precompute again encodes these units"
