"""What is trained on together, and the knobs of the loader."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheShare:
    """One of several latent caches that are trained on together."""

    url: str
    """The cache."""
    weight: float = 1.0
    """Its share of the steps, relative to the others': with 3 and 1 three of every four steps."""
    snapshot: int | None = None
    """Number of the snapshot that is read; None is the newest when the run starts."""

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"weight = {self.weight!r}; it must be above 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How a rank reads ahead."""

    prefetch_steps: int = 4
    """Steps whose samples are read while earlier ones compute; 0 reads in the loop's own thread."""
    readers: int = 16
    """Threads that read samples. A store that takes long to answer wants as many as there are
    requests to wait for: those of a step of one worker, times its seconds to answer, over the
    seconds of a step."""
    memory_bytes: int = 1 << 30
    """Samples kept in memory once read, per worker, until this is full; 0 keeps none. A set that
    fits is read once."""
    disk: str | None = None
    """Folder on a local disk that keeps what is read of a remote cache, for all workers and jobs of
    a machine; None keeps nothing."""
    disk_bytes: int = 100 << 30
    """How much may lie in that folder; what was used longest ago goes first."""

    def __post_init__(self) -> None:
        if self.prefetch_steps < 0 or self.memory_bytes < 0:
            raise ValueError("prefetch_steps and memory_bytes are 0 or more")
        if self.readers < 1 or self.disk_bytes < 1:
            raise ValueError("readers and disk_bytes are at least 1")
