"""Where the time of a run goes: waiting for data, stepping, saving, everything else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Phases:
    """Wall time by phase since the last reading."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside the block as `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def read(self, *, steps: int, samples: int) -> dict[str, float]:
        """Return rates and the share of each phase since the last reading, and start again.

        Args:
            steps: steps taken since then.
            samples: samples in these steps, over all ranks.
        """
        now = time.perf_counter()
        elapsed = max(now - self._since, 1e-9)
        scalars = {f"time/{name}": s / elapsed for name, s in sorted(self._seconds.items())}
        scalars["steps_per_s"] = steps / elapsed
        scalars["samples_per_s"] = samples / elapsed
        self._seconds.clear()
        self._since = now
        return scalars
