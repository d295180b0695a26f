"""How busy a pool is: the share of its actors' time in which they had work."""

import dataclasses


@dataclasses.dataclass
class Meter:
    """Integrates over time how many actors there are and how many of them work."""

    at_s: float | None = None
    """When it was last told; None before the first time."""
    there_s: float = 0.0
    """Seconds of all actors."""
    busy_s: float = 0.0
    """Seconds of those that had work."""
    size: int = 0
    """Actors since then."""
    busy: int = 0
    """Those of them that have work."""

    def tell(self, now_s: float, *, size: int, busy: int) -> None:
        """Note how many actors there are from now on, and how many have work."""
        if self.at_s is not None:
            self.there_s += (now_s - self.at_s) * self.size
            self.busy_s += (now_s - self.at_s) * self.busy
        self.at_s, self.size, self.busy = now_s, size, busy

    def share(self, since: "tuple[float, float]" = (0.0, 0.0)) -> float:
        """Return the busy share, over all time or since a `mark`; 0 before any time has passed."""
        there_s, busy_s = self.there_s - since[0], self.busy_s - since[1]
        return busy_s / there_s if there_s > 0 else 0.0

    def mark(self) -> tuple[float, float]:
        """Return a point in time for `share`."""
        return self.there_s, self.busy_s
