"""Look after a latent cache: `vdp cache info`, `verify`, `snapshot`, `gc`, `export`.

python -m jobs.cache info outputs/cache
"""

import re
import sys
from collections.abc import Mapping

from video_platform import latents
from video_platform.errors import ConfigError, CorruptCacheError

AGES_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
"""Seconds by the letter that ends an age."""


def info(url: str) -> None:
    """Print the layers, commits and snapshots of a cache."""
    cache = latents.info(url)
    print(f"{cache.url}: {len(cache.sources)} sources")
    for layer in cache.layers:
        print(
            f"  {layer.folder}: {layer.samples} samples in {layer.units} units, "
            f"{layer.shards} shards, {layer.size_bytes / 1e6:.1f} MB{_rejected(layer.rejects)}"
        )
    for header in cache.snapshots:
        partial = f", partial: {header.units_missing} units missing" if header.units_missing else ""
        print(
            f"  snapshot {header.number} ({header.id[:16]}): {header.clips} clips of source "
            f"{header.source}, {header.latent}{_rejected(header.rejects)}{partial}"
        )


def verify(url: str, *, snapshot: int | None = None) -> None:
    """Check every stored byte against its checksum.

    Raises:
        CorruptCacheError: something that the cache names is missing or changed.
    """
    findings = latents.verify(url, snapshot=snapshot)
    for finding in findings:
        print(f"{finding.kind}: {finding.key}: {finding.message}")
    harmful = sum(finding.harmful for finding in findings)
    if harmful:
        raise CorruptCacheError(
            f"{url}: {harmful} files or tensors are damaged; see the list above"
        )
    print(f"{url}: every byte is as it was written")


def snapshot(url: str) -> None:
    """Freeze what is committed now, whole or not, of the source that was encoded last."""
    header = latents.snapshot(url, partial=True)
    missing = f"; {header.units_missing} units are missing" if header.units_missing else ""
    print(f"snapshot {header.number} ({header.id[:16]}): {header.clips} clips{missing}")


def gc(url: str, *, older_than: str = "7d", dry_run: bool = False) -> None:
    """Remove the files of writers that died or came second, where nothing names them.

    Raises:
        ConfigError: `older_than` is no age.
    """
    age = re.fullmatch(r"(\d+)([smhd])", older_than)
    if age is None:
        raise ConfigError(f"--older-than is {older_than!r}; give an age such as 12h or 7d")
    older_than_s = float(age[1]) * AGES_S[age[2]]
    litter = latents.collect_garbage(url, older_than_s=older_than_s, dry_run=dry_run)
    for item in litter:
        size = "half-written" if item.size_bytes is None else f"{item.size_bytes / 1e6:.1f} MB"
        print(f"{item.key}: {size}, {item.age_s / AGES_S['d']:.1f} days old")
    size_mb = sum(item.size_bytes or 0 for item in litter) / 1e6
    done = "would be removed" if dry_run else "removed"
    print(f"{url}: {len(litter)} files, {size_mb:.1f} MB, {done}")


def export(
    url: str, out: str, *, format: str, snapshot: int | None = None, shard_mb: int = 256
) -> None:
    """Write a snapshot as files that other trainers read; killed, it goes on where it was."""

    def show(done: int, shards: int) -> None:
        print(f"\r{done} of {shards} shards", end="", flush=True)

    cache = latents.open_cache(url, snapshot=snapshot)
    made = latents.export_cache(
        cache, out, format=format, shard_bytes=shard_mb << 20, on_shard=show
    )
    print(
        f"\r{out}: {made.samples} samples in {made.shards} shards, "
        f"{made.size_bytes / 1e6:.1f} MB; {made.written} written now"
    )


def _rejected(reasons: Mapping[str, int]) -> str:
    """Spell out rejects by reason."""
    if not reasons:
        return ""
    return ", rejected: " + ", ".join(f"{count} {reason}" for reason, count in reasons.items())


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["cache", *sys.argv[1:]]))
