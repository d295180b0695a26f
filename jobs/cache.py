"""Look after a latent cache: `vdp cache info`, `vdp cache verify`, `vdp cache snapshot`.

python -m jobs.cache info outputs/cache
"""

import sys
from collections.abc import Mapping

from video_platform import latents
from video_platform.errors import CorruptCacheError


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


def _rejected(reasons: Mapping[str, int]) -> str:
    """Spell out rejects by reason."""
    if not reasons:
        return ""
    return ", rejected: " + ", ".join(f"{count} {reason}" for reason, count in reasons.items())


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["cache", *sys.argv[1:]]))
