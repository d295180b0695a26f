"""What a layer of the cache is bound to: its SPEC.json.

`identity` is hashed, and names the layer's folder: everything that may change a stored value.
`information` is written down for people and for lineage, and decides nothing.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from video_platform.errors import CacheError
from video_platform.latents.canary import Canary
from video_platform.latents.config import CacheConfig, Precision
from video_platform.latents.sealed import digest
from video_platform.video.policy import PixelPolicy

ENCODE_VERSION = 1
"""Raise it when the way from frames to stored latents changes in code."""

LATENT = "latent"
"""Name of the layer that the autoencoder makes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """Identity and description of one layer."""

    layer: str
    """`latent`, `text/<encoder>` or `clip/<name>`."""
    identity: Mapping[str, Any]
    """Everything that its stored values depend on; JSON."""
    information: Mapping[str, Any]
    """Everything else worth knowing; JSON."""
    canary: Canary | None = None
    """Latents of the canary clip; None in any other layer."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the identity."""
        return digest(dict(self.identity))

    @property
    def folder(self) -> str:
        """Where it lies under the cache's root."""
        return f"{self.layer}/{self.fingerprint[:16]}"

    def to_json(self) -> dict[str, Any]:
        """Return the content of SPEC.json."""
        return {**dataclasses.asdict(self), "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "LayerSpec":
        """Read what `to_json` made."""
        return cls(
            layer=tree["layer"],
            identity=tree["identity"],
            information=tree["information"],
            canary=Canary.from_json(tree["canary"]) if tree["canary"] else None,
        )


def latent_spec(
    *,
    autoencoder_fingerprint: str,
    policy: PixelPolicy,
    config: CacheConfig,
    information: Mapping[str, Any],
) -> LayerSpec:
    """Describe the layer that an autoencoder makes of clips of one pixel policy.

    Args:
        autoencoder_fingerprint: SHA-256 over the autoencoder's tensors.
        policy: the pixels that it encodes.
        config: the cache's settings, of which only the precisions count.
        information: whatever else describes the autoencoder.
    """
    identity = {
        "autoencoder": autoencoder_fingerprint,
        "encode": {"compute": config.compute, "stored": config.stored, "tiling": "none"},
        "encode_version": ENCODE_VERSION,
        "pixels": policy.making,
    }
    return LayerSpec(layer=LATENT, identity=identity, information=information)


def text_spec(name: str, *, identity: Mapping[str, Any], stored: Precision) -> LayerSpec:
    """Describe the layer that a text encoder makes.

    Raises:
        CacheError: the encoder's name cannot be a folder.
    """
    return LayerSpec(
        layer=_named("text", name),
        identity={"encoder": dict(identity), "stored": stored},
        information={},
    )


def clip_spec(name: str, *, identity: Mapping[str, Any], policy: PixelPolicy) -> LayerSpec:
    """Describe a further layer of clips of one pixel policy.

    Args:
        name: what it is called.
        identity: everything besides the pixels that its values depend on; JSON.
        policy: the pixels that it is made from.

    Raises:
        CacheError: the name cannot be a folder.
    """
    return LayerSpec(
        layer=_named("clip", name),
        identity={"made_by": dict(identity), "pixels": policy.making},
        information={},
    )


def differences(ours: Any, theirs: Any, prefix: str = "") -> list[str]:
    """Name the fields in which two JSON values differ, with both values."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return [
            line
            for key in sorted({*ours, *theirs})
            for line in differences(ours.get(key), theirs.get(key), f"{prefix}.{key}".strip("."))
        ]
    return [] if ours == theirs else [f"{prefix} is {ours!r}, not {theirs!r}"]


def _named(kind: str, name: str) -> str:
    """Return the layer of a name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise CacheError(f"{kind} layer {name!r}: a name has letters, digits, dots and hyphens")
    return f"{kind}/{name}"
