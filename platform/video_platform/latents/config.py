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
    """Fewest actors that decode videos. More are started while the encoders wait for them, and
    ended when they are not needed."""

    max_decoders: int | None = None
    """Most decoders; None is as many as the cluster has CPUs for beside the encoders. So a GPU
    that encodes gets as many decoders as it takes to keep it busy."""

    encoders: int = 1
    """Fewest actors that encode clips and write shards, each with an autoencoder of its own: one a
    GPU. Also how many encode captions."""

    max_encoders: int | None = None
    """Most encoders, while the decoders wait for them; None keeps to `encoders`."""

    bytes_in_flight: int = 1 << 30
    """Most bytes of decoded frames in memory at one time, for each encoder. A batch that is larger
    than half of it is cut; one clip is always let in."""

    clips_in_flight: int = 64
    """Most decoded clips in memory at one time, for each encoder."""

    batch_size: int = 4
    """Most clips in one call of the autoencoder; they are of one size."""

    chunk_frames: int | None = None
    """A clip of more frames is encoded in chunks of so many, in memory that does not grow with its
    length; the latents are the same. None encodes each clip at once."""

    tile_pixels: int | None = None
    """A clip whose frames are higher or wider is encoded in square tiles of such a side, exactly;
    the latents are the same. A multiple of the pixels of a latent; None never cuts frames up."""

    cpus_per_decoder: float = 0.5
    """CPUs that Ray sets aside for a decoder; fractions share one. How many threads decode is
    `limits.threads`."""

    cpus_per_encoder: float = 0.5
    """CPUs that Ray sets aside for an encoder, and its threads: one for each whole CPU, one at
    least. Without a GPU many encoders of one thread make more of a machine than one of many, and
    take more memory."""

    gpus_per_encoder: float = 0.0
    """GPUs that Ray sets aside for an encoder; 0 encodes on the CPU."""

    start_timeout_s: float = 300.0
    """Seconds in which there may be no decoder, or no encoder, at all: at the start, for a cluster
    that has to grow first, and after they have died."""

    canary_tolerance: float = 1e-3
    """How far the statistics of the canary clip may drift from the recorded ones, relative to the
    largest of them."""

    def __post_init__(self) -> None:
        """Check every number."""
        for name in (
            "unit_size",
            "text_unit_size",
            "decoders",
            "max_decoders",
            "encoders",
            "max_encoders",
            "bytes_in_flight",
            "clips_in_flight",
            "batch_size",
            "chunk_frames",
            "tile_pixels",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is at least 1, not {value!r}")
        for name in ("cpus_per_decoder", "cpus_per_encoder", "gpus_per_encoder"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is not below 0: {getattr(self, name)!r}")
        if self.start_timeout_s <= 0 or self.canary_tolerance <= 0:
            raise ValueError("start_timeout_s and canary_tolerance are above 0")
        for name in ("decoders", "encoders"):
            fewest, most = getattr(self, name), getattr(self, f"max_{name}")
            if most is not None and most < fewest:
                raise ValueError(f"max_{name} {most!r} is below {name} {fewest!r}")

    @property
    def encoder_threads(self) -> int:
        """Threads of torch in each encoder."""
        return max(1, int(self.cpus_per_encoder))
