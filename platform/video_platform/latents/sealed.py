"""JSON files that carry their own checksum, and the one spelling of JSON that hashes are taken of.

    {"...": ..., "sha256": hash of everything else}

A flipped byte in a commit, a spec or a snapshot is found when the file is read.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from video_platform.errors import CorruptCacheError

_SEAL = "sha256"


def canonical_json(value: Any) -> bytes:
    """Spell a JSON value in the one way that hashes are taken of: sorted keys, no spaces."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def seal(body: Mapping[str, Any]) -> bytes:
    """Write a JSON object with its checksum."""
    return canonical_json({**body, _SEAL: digest(body)}) + b"\n"


def unseal(data: bytes, key: str) -> dict[str, Any]:
    """Read what `seal` wrote, the checksum still in it.

    Raises:
        CorruptCacheError: the bytes are not what was sealed.
    """
    try:
        body = json.loads(data)
        claimed = body[_SEAL]
        intact = bool(hashlib.sha256(_unsealed(data, claimed)).hexdigest() == claimed)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CorruptCacheError(f"{key} is damaged: it is no sealed JSON file") from None
    if not intact:
        raise CorruptCacheError(f"{key} is damaged: its content does not match its checksum")
    return dict(body)


def _unsealed(data: bytes, claimed: str) -> bytes:
    """Cut the checksum out of a sealed file, which leaves what it was taken of."""
    before, _, after = data.removesuffix(b"\n").partition(f'"{_SEAL}":"{claimed}"'.encode())
    if before.endswith(b","):
        return before[:-1] + after
    return before + after.removeprefix(b",")
