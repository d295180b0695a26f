"""The knobs of the loader."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How a rank reads ahead."""

    prefetch_steps: int = 2
    """Steps whose samples are read while earlier ones compute; 0 reads in the loop's own thread."""
    memory_bytes: int = 1 << 30
    """Samples kept in memory once read, per worker, until this is full; 0 keeps none. A set that
    fits is read once."""

    def __post_init__(self) -> None:
        if self.prefetch_steps < 0 or self.memory_bytes < 0:
            raise ValueError("prefetch_steps and memory_bytes are 0 or more")
