"""The latent cache: what the autoencoder and the text encoders made of the source, kept for ever.

    <root>/sources/<fp16>.parquet               the stored source manifests
    <root>/plans/<fp16>.json                    which source and which layers belong together
    <root>/latent/<fp16>/                       one layer: SPEC.json, data/, commits/
    <root>/text/<encoder>/<fp16>/               another layer, keyed by caption
    <root>/clip/<name>/<fp16>/                  a further layer, keyed by clip
    <root>/fidelity/<fp16>/, forecasts/         what was measured of latents, and what was expected
    <root>/snapshots/<n>.json, data/*.arrow     what training opens

What samples depend on is written once (put-if-absent) and never changed. `config.py` has the knobs;
the names below are loaded when they are first used, so that a recipe needs neither torch nor
pyarrow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from video_platform.latents.audit import verify
    from video_platform.latents.export import export_cache
    from video_platform.latents.gc import collect_garbage
    from video_platform.latents.reader import Cache, Sample, check_matches, open_cache
    from video_platform.latents.snapshots import snapshot
    from video_platform.latents.summary import info

__all__ = [
    "Cache",
    "Sample",
    "check_matches",
    "collect_garbage",
    "export_cache",
    "info",
    "open_cache",
    "snapshot",
    "verify",
]

_HOMES = {
    "Cache": "reader",
    "Sample": "reader",
    "check_matches": "reader",
    "collect_garbage": "gc",
    "export_cache": "export",
    "info": "summary",
    "open_cache": "reader",
    "snapshot": "snapshots",
    "verify": "audit",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
