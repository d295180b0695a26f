"""What latents are worth, measured on a sampled share of the clips while they are made.

Inside an encoder a sampled clip's latents are decoded back, as they are stored, and compared with
its frames; a clip that was cut into chunks or tiles is also encoded whole. Which clips are sampled
depends on their ids alone. On the driver a gate counts by bucket and stops a run that makes latents
which nobody should train on.

Legend: T frames, H W pixels.
"""

import dataclasses
import hashlib
import heapq
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from jobs.precompute_config import FidelityConfig
from video_platform.datasets.record import Record
from video_platform.errors import CacheError
from video_platform.latents.sealed import seal, unseal
from video_platform.storage import Store

ENOUGH_CLIPS = 8
"""Clips of a bucket after which its mean is judged; at the end of a run any number is."""
SAVE_EVERY_S = 30.0
"""Seconds of measuring that a run which is killed may lose."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What was measured of one clip."""

    bucket: str
    """Its size in pixels, frames x height x width."""
    psnr_db: float
    """Of the decoded latents against the frames."""
    difference: float | None
    """Root mean square of what chunks and tiles changed in the latents, relative to their standard
    deviation; None for a clip that was encoded whole."""
    strip: bytes | None = None
    """A PNG of original, reconstruction and difference; None for most clips."""


@dataclasses.dataclass(kw_only=True)
class BucketFidelity:
    """What was measured of the clips of one bucket."""

    clips: int = 0
    """Clips measured."""
    psnr_sum_db: float = 0.0
    """Sum of their PSNR."""
    min_psnr_db: float = float("inf")
    """The worst of them."""
    cut: int = 0
    """Clips that were encoded in chunks or tiles."""
    max_difference: float = 0.0
    """The largest difference that this made."""

    @property
    def psnr_db(self) -> float:
        """Mean PSNR."""
        return self.psnr_sum_db / self.clips

    def figures(self) -> dict[str, float]:
        """Return it for a report; `max_difference` only where clips were cut."""
        figures = {
            "clips": float(self.clips),
            "psnr_db": self.psnr_db,
            "min_psnr_db": self.min_psnr_db,
        }
        return figures | ({"max_difference": self.max_difference} if self.cut else {})

    def add(self, other: "BucketFidelity") -> None:
        """Count what another count holds."""
        self.clips += other.clips
        self.psnr_sum_db += other.psnr_sum_db
        self.min_psnr_db = min(self.min_psnr_db, other.min_psnr_db)
        self.cut += other.cut
        self.max_difference = max(self.max_difference, other.max_difference)


def draw(clip_id: str) -> int:
    """Return a number from 0 to 2^64 for a clip, the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"fidelity\0{clip_id}".encode()).digest()[:8])


def draw_bounds(records: Iterable[Record], config: FidelityConfig) -> dict[str, int]:
    """Return, for each bucket of a source, the number below which a clip's draw is looked at.

    A share of the clips is below, and of a small bucket at least `config.least`.
    """
    draws: dict[str, list[int]] = defaultdict(list)
    for record in records:
        draws[str(record.size)].append(draw(record.id))
    bound = int(config.share * 2**64)
    return {
        bucket: max([bound, *(each + 1 for each in heapq.nsmallest(config.least, found))])
        for bucket, found in draws.items()
    }


class FidelityGate:
    """Counts what encoders measured, keeps it in the cache, and judges it; used in a `with` block.

    What earlier runs measured counts too, so that a run which was stopped is stopped again until
    the recipe or the autoencoder has changed.

    Args:
        root: the cache.
        folder: the latent layer.
        config: the thresholds.

    Attributes:
        strips: PNG pictures by bucket, of the first clip that was measured and of the worst.
    """

    def __init__(self, root: Store, folder: str, config: FidelityConfig) -> None:
        self.strips: dict[str, dict[str, bytes]] = defaultdict(dict)
        self._store = root.child(f"fidelity/{folder.rsplit('/', 1)[-1]}")
        self._folder, self._config = folder, config
        self._before = _read(self._store)
        self._now: dict[str, BucketFidelity] = {}
        self._name = f"{uuid.uuid4().hex[:16]}.json"
        self._saved_s = time.monotonic()

    def __enter__(self) -> Self:
        """Judge what earlier runs measured.

        Raises:
            CacheError: it is below a threshold.
        """
        self._judge(self.buckets(), at_least=1)
        return self

    def __exit__(self, *_: object) -> None:
        """Keep what this run measured, whatever ends it."""
        self.save()

    def add(self, clip_id: str, found: Fidelity) -> None:
        """Take what an encoder measured of a clip.

        Raises:
            CacheError: its bucket is below a threshold.
        """
        bucket = self._now.setdefault(found.bucket, BucketFidelity())
        cut = found.difference is not None
        if found.strip is not None:
            strips = self.strips[found.bucket]
            strips.setdefault("first", found.strip)
            if found.psnr_db < bucket.min_psnr_db:
                strips["worst"] = found.strip
        bucket.add(
            BucketFidelity(
                clips=1,
                psnr_sum_db=found.psnr_db,
                min_psnr_db=found.psnr_db,
                cut=int(cut),
                max_difference=found.difference or 0.0,
            )
        )
        if time.monotonic() - self._saved_s >= SAVE_EVERY_S:
            self.save()
        self._judge({found.bucket: self.buckets()[found.bucket]}, at_least=ENOUGH_CLIPS)

    def finish(self) -> None:
        """Judge all that was measured.

        Raises:
            CacheError: a bucket is below a threshold.
        """
        self._judge(self.buckets(), at_least=1)

    def save(self) -> None:
        """Keep what this run measured so far."""
        self._saved_s = time.monotonic()
        if self._now:
            tree = {name: dataclasses.asdict(each) for name, each in self._now.items()}
            self._store.put(self._name, seal({"buckets": tree}))

    def buckets(self) -> dict[str, BucketFidelity]:
        """Return what was measured of each bucket, by this run and those before it."""
        total: dict[str, BucketFidelity] = {}
        for part in (self._before, self._now):
            for name in sorted(part):
                total.setdefault(name, BucketFidelity()).add(part[name])
        return total

    def _judge(self, buckets: Mapping[str, BucketFidelity], *, at_least: int) -> None:
        reasons = [
            reason
            for name, each in buckets.items()
            for reason in _reasons(name, each, self._config, at_least)
        ]
        if reasons:
            raise CacheError(
                f"{self._folder} holds latents that are not good enough: {'; '.join(reasons)}. "
                "The strips in the run show them. What is committed stays: fill another cache.url "
                "with another autoencoder or other chunks, or change fidelity in the recipe"
            )


def _reasons(
    name: str, found: BucketFidelity, config: FidelityConfig, at_least: int
) -> Iterator[str]:
    """Say what is wrong with a bucket."""
    least, most = config.min_psnr_db, config.max_chunk_difference
    if least is not None and found.clips >= at_least and found.psnr_db < least:
        yield (
            f"bucket {name} decodes to {found.psnr_db:.1f} dB, a mean over {found.clips} clips, "
            f"below fidelity.min_psnr_db = {least:g}"
        )
    if found.max_difference > most:
        yield (
            f"bucket {name} is off by {found.max_difference:.2g} of its deviation when it is cut "
            f"into chunks and tiles, above fidelity.max_chunk_difference = {most:g}"
        )


def _read(store: Store) -> dict[str, BucketFidelity]:
    """Add up what earlier runs kept."""
    total: dict[str, BucketFidelity] = {}
    for key in store.list():
        buckets: dict[str, Any] = unseal(store.read(key), key)["buckets"]
        for name, tree in buckets.items():
            total.setdefault(name, BucketFidelity()).add(BucketFidelity(**tree))
    return total
