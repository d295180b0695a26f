"""The config of a `TokenAutoencoder` in a model folder: `config.json` to config and back."""

import dataclasses
from typing import Any

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.quantiser_config import (
    KNOBS,
    QuantiserConfig,
    TokenAutoencoderConfig,
)

TOKENS = "TokenAutoencoder"
"""The class that such a config names."""

SECTIONS = {"backbone", "quantiser"}


def to_tree(config: TokenAutoencoderConfig) -> dict[str, Any]:
    """Return what `config.json` holds: the backbone, and the knobs of this kind of codebook."""
    quantiser = config.quantiser
    return {
        "_class_name": TOKENS,
        "backbone": dataclasses.asdict(config.backbone),
        "quantiser": {name: getattr(quantiser, name) for name in ("kind", *KNOBS[quantiser.kind])},
    }


def from_tree(tree: dict[str, Any]) -> TokenAutoencoderConfig:
    """Undo `to_tree`, on what JSON made of it.

    Raises:
        TypeError: a section or a field is missing or unknown.
        ValueError: a value does not fit.
    """
    parts = {name: part for name, part in tree.items() if not name.startswith("_")}
    if parts.keys() != SECTIONS:
        raise TypeError(f"it has the sections {sorted(parts)}; expected {sorted(SECTIONS)}")
    return TokenAutoencoderConfig(
        backbone=AutoencoderConfig(**_tuples(parts["backbone"])),
        quantiser=QuantiserConfig(**_tuples(parts["quantiser"])),
    )


def _tuples(part: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in part.items()}
