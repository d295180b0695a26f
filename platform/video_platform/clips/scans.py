"""What scans found, kept for ever, so that no video is looked through twice.

    scans/<hash of how closely was looked>/<hash of the content>.json

A file holds what was found in some videos, each under a hash of where its bytes come from. It never
changes; whoever scans a video that another run scanned too writes the same again. Refusals count
only under the limits that they were made under.
"""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from video_platform.clips.config import ClipsConfig
from video_platform.datasets.record import Record
from video_platform.errors import CorruptCacheError
from video_platform.latents.sealed import digest, seal, unseal
from video_platform.storage import Store
from video_platform.video.limits import MediaLimits
from video_platform.video.scan import Scan, ScanConfig

SCAN_VERSION = 1
"""Raise it when the same video would scan otherwise than before."""

READERS = 16
"""Threads that read what was found."""

HELD = 8
"""Files of findings that are in memory while all are walked through."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusal:
    """A video that cannot be read, or not within the limits."""

    reason: str
    """One of `video.limits.REASONS`."""
    error: str
    """The refusal in words."""
    limits: str
    """Hash of the limits."""


Finding = Scan | Refusal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scanning:
    """How videos are looked through."""

    look: ScanConfig
    """How closely."""
    limits: MediaLimits
    """Which are refused."""

    @classmethod
    def of(cls, config: ClipsConfig, limits: MediaLimits) -> Self:
        """Take from a recipe what a scan needs to know."""
        look = ScanConfig(
            looks_per_s=config.looks_per_s,
            scenes=config.cut == "scenes",
            scene_threshold=config.scene_threshold,
            min_scene_s=config.min_scene_s,
        )
        return cls(look=look, limits=dataclasses.replace(limits, timeout_s=config.scan_timeout_s))

    @property
    def folder(self) -> str:
        """Where findings are kept under the root of a cache."""
        identity = {"version": SCAN_VERSION, **dataclasses.asdict(self.look)}
        return f"scans/{digest(identity)[:16]}"

    @property
    def bounds(self) -> str:
        """Hash of the limits, of which threads change nothing."""
        return digest({**dataclasses.asdict(self.limits), "threads": None})[:16]


class Shelf:
    """The findings of one kind of scan in a store."""

    def __init__(self, root: Store, scanning: Scanning) -> None:
        self._root = root
        self._scanning = scanning
        self._places: dict[str, str] = {}
        self._read = functools.lru_cache(HELD)(self._load)

    def refresh(self) -> None:
        """Look up what there is."""
        new = set(self._root.scan(self._scanning.folder)) - set(self._places.values())
        with ThreadPoolExecutor(READERS) as threads:
            for key, found in zip(new, threads.map(self._load, new), strict=True):
                self._places.update(dict.fromkeys(found, key))

    def missing(self, records: Iterable[Record]) -> list[Record]:
        """Return the videos of which nothing is known."""
        return [record for record in records if media_hash(record) not in self._places]

    def put(self, found: Mapping[str, Finding]) -> None:
        """Keep what was found, by `media_hash`."""
        body = {name: _to_json(finding) for name, finding in found.items()}
        key = f"{self._scanning.folder}/{digest(body)[:16]}.json"
        self._root.put_if_absent(key, seal({"found": body}))

    def walk(self, records: Sequence[Record]) -> Iterator[tuple[Record, Finding]]:
        """Yield records with what was found; there must be something of each.

        Raises:
            CorruptCacheError: what was kept is damaged.
        """
        for record in records:
            name = media_hash(record)
            yield record, _from_json(self._read(self._places[name])[name])

    def _load(self, key: str) -> dict[str, Any]:
        """Read what counts of one file of findings."""
        try:
            found: dict[str, Any] = unseal(self._root.read(key), key)["found"]
        except CorruptCacheError as error:
            raise CorruptCacheError(f"{error}; delete it, its videos are scanned again") from None
        bounds = self._scanning.bounds
        return {name: tree for name, tree in found.items() if tree.get("limits", bounds) == bounds}


def media_hash(record: Record) -> str:
    """Hash where the bytes of a video come from; id and caption play no part."""
    names = ("url", "key", "offset", "row", "size_bytes", "identity")
    return digest({name: getattr(record, name) for name in names})[:32]


def _to_json(finding: Finding) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(finding)))
    return tree


def _from_json(tree: Mapping[str, Any]) -> Finding:
    return Refusal(**tree) if "reason" in tree else Scan.from_json(tree)
