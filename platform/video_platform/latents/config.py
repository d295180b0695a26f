"""Where the latent cache lies and how it is filled.

Only `compute` and `stored` change a stored value, so only they are part of the cache's identity;
every other knob may change from one run to the next over the same cache.
"""

import dataclasses
from typing import Literal

Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """One latent cache and the Ray actors that fill it."""

    url: str
    """The root: a local folder or an `s3://` URL that every worker reaches."""

    compute: Precision = "float32"
    """Precision in which the autoencoder encodes."""

    stored: Precision = "float32"
    """Precision of the stored means, log-variances and text embeddings."""

    unit_size: int = 64
    """Most clips in a unit, the piece of work that is committed, or redone, as one."""

    text_unit_size: int = 1024
    """Most captions in a unit of a text layer."""

    decoders: int = 1
    """Actors that decode videos."""

    encoders: int = 1
    """Actors that encode clips and write shards; also how many encode captions."""

    clips_in_flight: int = 8
    """Most decoded clips waiting in memory at one time, over all encoders."""

    batch_size: int = 4
    """Most clips in one call of the autoencoder."""

    cpus_per_decoder: float = 0.5
    """CPUs that Ray sets aside for a decoder; fractions share one."""

    cpus_per_encoder: float = 0.5
    """CPUs that Ray sets aside for an encoder; fractions share one."""

    gpus_per_encoder: float = 0.0
    """GPUs that Ray sets aside for an encoder; 0 encodes on the CPU."""

    encoder_threads: int = 1
    """Threads of torch in each encoder."""

    start_timeout_s: float = 300.0
    """Seconds to wait for the actors to start, for a cluster that has to grow first."""

    canary_tolerance: float = 1e-3
    """How far the statistics of the canary clip may drift from the recorded ones, relative to the
    largest of them."""

    def __post_init__(self) -> None:
        """Check every number."""
        for name in (
            "unit_size",
            "text_unit_size",
            "decoders",
            "encoders",
            "clips_in_flight",
            "batch_size",
            "encoder_threads",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)!r}")
        for name in ("cpus_per_decoder", "cpus_per_encoder", "gpus_per_encoder"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is not below 0: {getattr(self, name)!r}")
        if self.start_timeout_s <= 0 or self.canary_tolerance <= 0:
            raise ValueError("start_timeout_s and canary_tolerance are above 0")
        if self.clips_in_flight < self.encoders:
            raise ValueError(
                f"clips_in_flight {self.clips_in_flight!r} is below encoders {self.encoders!r}; "
                "each encoder needs room for one clip"
            )
