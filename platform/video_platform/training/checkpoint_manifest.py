"""What a checkpoint says about itself: the one file that makes it exist.

Everything in it is JSON. Tensors lie beside it in safetensors files, whose names, sizes and SHA-256
it lists, so neither is ever unpickled.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from video_platform.errors import CheckpointError, CorruptCacheError
from video_platform.latents.sealed import seal, unseal

FORMAT = 3
Tensors = dict[str, dict[str, dict[str, list[Any]]]]
"""Type and whole shape of tensors, such as `["float32", 3, 4]`: by engine, kind, and name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a checkpoint says about itself."""

    step: int
    """Optimiser steps that the run has taken; it goes on with the step of this number."""
    fingerprint: str
    """Identity of the run, see `fingerprint`."""
    attempt: str
    """Folder of the files within that of the step; each attempt to save has one of its own."""
    counters: dict[str, dict[str, float]]
    """By engine."""
    state: dict[str, Any]
    """What must survive beside the engines, as JSON: of the training step and of the batches."""
    tensors: Tensors
    """All that it holds."""
    files: dict[str, dict[str, Any]]
    """By file name: `size_bytes` and `sha256`."""
    format: int = FORMAT
    """Version of this layout."""

    def encode(self) -> bytes:
        """Return the file's content, with a checksum of its own."""
        return seal(dataclasses.asdict(self))


def decode(data: bytes, place: str) -> Manifest:
    """Read a manifest.

    Args:
        data: the file's content.
        place: where it is, for errors.

    Raises:
        CheckpointError: it is torn, or of a version that this code does not know.
    """
    try:
        tree = unseal(data, place)
        del tree["sha256"]
        if tree.get("format") != FORMAT:
            raise CheckpointError(
                f"{place} has format {tree.get('format')}, this code reads {FORMAT}"
            )
        manifest = Manifest(**tree)
        names = [manifest.attempt, *manifest.files]
        sizes = [(each["size_bytes"], each["sha256"]) for each in manifest.files.values()]
    except (CorruptCacheError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{place} cannot be read: {error}") from None
    if any("/" in name or name in ("", ".", "..") for name in names):
        raise CheckpointError(f"{place} names a file outside its own folder")
    if any(not isinstance(size, int) or not isinstance(digest, str) for size, digest in sizes):
        raise CheckpointError(f"{place} cannot be read: a size or checksum is none")
    return manifest


def fingerprint(tree: Mapping[str, Any]) -> str:
    """Hash what must stay the same for a resumed run to be the same run, as canonical JSON."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
