"""Read a whole cache and check every byte of it against what was written down.

Harmful findings are damage: something that is named is missing, cut short or changed. The others
are harmless: shards that no commit names (a writer died, or came second), and files that are none
of ours.
"""

import dataclasses
import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from zlib_ng import zlib_ng

from video_platform.errors import CacheError, CorruptCacheError
from video_platform.latents.index import NUMBERS, PLACE, Index, PlaceColumn
from video_platform.latents.layer import Layer, read_layer
from video_platform.latents.manifest import load_manifest, load_plan
from video_platform.latents.records import Commit, Shard
from video_platform.latents.sealed import unseal
from video_platform.latents.snapshots import list_snapshots, load_index, load_snapshot
from video_platform.latents.summary import layer_folders
from video_platform.storage import MissingKeyError, Store, open_store

READERS = 4
"""Shards that are read and checked at one time."""

Span = tuple[int, int, int]
"""Offset, length and CRC of a tensor in its shard."""

Kind = Literal["missing", "truncated", "changed", "damaged", "orphan", "foreign"]

LAYOUT = re.compile(
    r"sources/[0-9a-f]{16}\.parquet|plans/[0-9a-f]{16}\.json"
    r"|clips/[0-9a-f]{16}\.parquet|scans/[0-9a-f]{16}/[0-9a-f]{16}\.json"
    r"|snapshots/(\d+\.json|data/[0-9a-f]{16}\.arrow)"
    r"|forecasts/[0-9a-f]{16}\.json|fidelity/[0-9a-f]{16}/[0-9a-f]{16}\.json"
    r"|(latent|text/[^/]+|clip/[^/]+)/[0-9a-f]{16}/"
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
    """Ids of the units that name it."""


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
        findings += _verify_layer(root, folder, named)
    for number in list_snapshots(root):
        findings += _verify_snapshot(root, number, named)
    return findings + _litter(keys, named, damaged=any(finding.harmful for finding in findings))


def _litter(keys: Iterable[str], named: Set[str], *, damaged: bool) -> list[Finding]:
    """List the files that nothing needs."""
    advice = "mend the damage first" if damaged else "`vdp cache gc` removes it when it is old"
    foreign = [key for key in keys if not LAYOUT.fullmatch(key)]
    orphans = [key for key in keys if "/data/" in key and key not in named]
    return [
        Finding(kind="orphan", key=key, message=f"nothing that can be read names it; {advice}")
        for key in orphans
        if key not in foreign
    ] + [Finding(kind="foreign", key=key, message="it is none of the cache's") for key in foreign]


def _verify_small_files(root: Store, keys: Iterable[str]) -> Iterator[Finding]:
    """Check manifests, plans, scans and lists of clips against their hashes."""
    for key in keys:
        name = key.rsplit("/", 1)[-1].split(".")[0]
        try:
            if key.startswith("sources/"):
                load_manifest(root, name)
            elif key.startswith("plans/"):
                load_plan(root, name)
            elif key.startswith("scans/"):
                unseal(root.read(key), key)
            elif key.startswith("clips/"):
                _check_name(root.read(key), key, name)
        except CorruptCacheError as error:
            yield Finding(kind="damaged", key=key, message=str(error))


def _check_name(data: bytes, key: str, name: str) -> None:
    if hashlib.sha256(data).hexdigest()[:16] != name:
        raise CorruptCacheError(f"{key} is damaged: its content does not match its name")


def _verify_snapshot(root: Store, number: int, checked: set[str]) -> Iterator[Finding]:
    """Check that all that a snapshot names is there and unchanged.

    Shards in `checked` are only looked for; the others are read, and added to it.
    """
    key = f"snapshots/{number}.json"
    try:
        header = load_snapshot(root, number)
        checked |= {file.key for file in header.index.all}
        index = load_index(root, header)
        index.check()
        places = _unchecked(index, checked)
    except (CorruptCacheError, MissingKeyError) as error:
        yield Finding(kind="damaged", key=key, message=f"{error}; take another snapshot")
        return
    hint = (
        f"snapshot {number} needs it; delete the snapshot unless a commit that can be redone does"
    )

    def check(shard: str) -> list[Finding]:
        if shard in checked and root.exists(shard):
            return []
        found = _compare_tensors(_read(root, shard), places.get(shard, ()))
        return [Finding(kind=k, key=shard, message=f"{message}; {hint}") for k, message in found]

    shards = sorted(index.shards.to_pylist())
    yield from _each(check, shards)
    checked |= set(shards)


def _unchecked(index: Index, checked: Set[str]) -> dict[str, list[Span]]:
    """Return the tensors that a snapshot names in shards that are not checked yet."""
    keys = index.shards.to_pylist()
    fresh = np.array([key not in checked for key in keys], bool)
    spans: dict[str, list[Span]] = defaultdict(list)
    for column in index.table().itercolumns():
        for chunk in column.chunks if column.type == PLACE else ():
            rows = np.stack([numbers.astype(np.int64) for numbers in PlaceColumn(chunk).numbers], 1)
            there = rows[:, NUMBERS.index("length")] >= 0
            chosen = rows[there][fresh[rows[there, NUMBERS.index("shard")]]]
            for shard, *span in np.unique(chosen, axis=0).tolist():
                spans[keys[shard]].append(tuple(span))
    return spans


def _verify_layer(root: Store, folder: str, named: set[str]) -> Iterator[Finding]:
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
            claims.setdefault(key, _Claim(shard)).commits.append(unit)
    named |= {f"{folder}/{key}" for key in claims}

    def check(key: str) -> list[Finding]:
        found = _compare(layer, key, claims[key])
        commits = [f"{folder}/commits/{unit}.json" for unit in claims[key].commits]
        return [
            Finding(kind=kind, key=f"{folder}/{key}", message=f"{message}; {_mend(commits)}")
            for kind, message in found
        ]

    yield from _each(check, sorted(claims))


def _each(check: Callable[[str], list[Finding]], shards: Sequence[str]) -> Iterator[Finding]:
    """Check shards, some at a time, and yield what is found in their order."""
    with ThreadPoolExecutor(READERS) as threads:
        yield from itertools.chain.from_iterable(threads.map(check, shards))


def _read_commit(layer: Layer, unit: str) -> Commit | Finding:
    try:
        return layer.commit(unit)
    except CorruptCacheError as error:
        key = f"{layer.spec.folder}/commits/{unit}.json"
        message = f"{error}; delete it and run precompute again, which redoes this unit"
        return Finding(kind="damaged", key=key, message=message)


def _read(store: Store, key: str) -> bytes | None:
    try:
        return store.read(key)
    except MissingKeyError:
        return None


def _compare(layer: Layer, key: str, claim: _Claim) -> Iterator[tuple[Kind, str]]:
    """Compare a file with what the commits say of it."""
    data = _read(layer.store, key)
    if data is None:
        yield "missing", "it is not there"
    elif len(data) != claim.shard.size_bytes:
        yield "truncated", f"it has {len(data)} of {claim.shard.size_bytes} bytes"
    elif hashlib.sha256(data).hexdigest() != claim.shard.sha256:
        places = {
            (record.offset, record.length, record.crc32)
            for commit in layer.commits(claim.commits)
            for entry in commit.entries
            for record in entry.tensors.values()
            if record.key == key
        }
        found = list(_compare_tensors(data, sorted(places)))
        yield from found or [("changed", "its header or padding is changed")]


def _compare_tensors(data: bytes | None, places: Iterable[Span]) -> Iterator[tuple[Kind, str]]:
    """Compare the tensors of a file with their checksums."""
    if data is None:
        yield "missing", "it is not there"
        return
    for offset, length, crc32 in places:
        end = offset + length
        if len(data) < end:
            yield "truncated", f"it has {len(data)} bytes, a tensor ends at {end}"
            return
        if zlib_ng.crc32(data[offset:end]) != crc32:
            yield "changed", f"bytes {offset} to {end} do not match their checksum"


def _mend(commits: Iterable[str]) -> str:
    """Say how a shard is made again: when its commits are gone, its units are not done."""
    return f"delete {' and '.join(commits)}, then precompute again encodes these units"
