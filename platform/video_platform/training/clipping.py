"""How large a gradient may be: a fixed limit, and one that follows the gradients themselves.

A gradient far above its usual size comes from a bad batch more often than from a good one. The
second limit lies some deviations above the moving average of the norm, as in Open-Sora Plan (Lin et
al. 2024, arXiv 2412.00131, section 3.4), and needs no tuning where the norm falls during a run.
"""

import math
from collections.abc import Mapping

SMOOTHING = 0.01
"""Weight of the newest norm in the moving average and variance."""
SETTLED = 20
"""Norms that are seen before the second limit holds."""


class Clipping:
    """The limit of a run's gradient norm.

    What exceeds the limit counts as the limit: one bad batch hardly lifts the average, and a
    lasting change does within some tens of steps.

    Args:
        norm: largest norm, None for any.
        deviations: how many standard deviations above its average the norm may lie; None for any.
    """

    def __init__(self, norm: float | None, deviations: float | None) -> None:
        self._norm, self._deviations = norm, deviations
        self._seen, self._mean, self._variance = 0, 0.0, 0.0

    @property
    def limit(self) -> float:
        """Largest norm of the next step; infinite where there is no limit."""
        limit = math.inf if self._norm is None else self._norm
        if self._deviations is None or self._seen < SETTLED:
            return limit
        return min(limit, self._mean + self._deviations * math.sqrt(self._variance))

    def note(self, norm: float) -> None:
        """Take in the norm of a step that was applied, before it was clipped."""
        if self._deviations is None:
            return
        kept = min(norm, self.limit)
        self._seen += 1
        weight = max(SMOOTHING, 1 / self._seen)  # the mean of all, while they are few
        gap = kept - self._mean
        self._mean += weight * gap
        self._variance = (1 - weight) * (self._variance + weight * gap**2)

    def counters(self) -> dict[str, float]:
        """Return what a checkpoint records; nothing where nothing is followed."""
        if self._deviations is None:
            return {}
        return {
            "clip_seen": self._seen, "clip_mean": self._mean, "clip_variance": self._variance
        }  # fmt: skip

    def restore(self, counters: Mapping[str, float]) -> None:
        """Take over what `counters` returned; a run that followed nothing begins to."""
        self._seen = int(counters.get("clip_seen", 0))
        self._mean = counters.get("clip_mean", 0.0)
        self._variance = counters.get("clip_variance", 0.0)
