"""How many decoders and encoders there should be: a rule over how busy each side was.

The two stages feed each other, so at any time one of them holds the other up. That one grows until
the other is busy too; where it cannot grow, what the other side has to spare is given back.
"""

import dataclasses
import math

BUSY = 0.9
"""A side that works so much of the time is the one that holds up the other."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One stage over the last while."""

    size: int
    """Actors that run."""
    waiting: int
    """Actors that were asked for and that the cluster has no room for yet."""
    busy: float
    """Share of the time in which they had work, 0 to 1."""
    least: int
    """Fewest actors."""
    most: int
    """Most actors."""


def rescale(decoders: Side, encoders: Side) -> tuple[int, int]:
    """Return how many decoders and encoders to have from now on."""
    if decoders.busy >= BUSY > encoders.busy:
        wanted, spare = _rescale(decoders, encoders)
        return wanted, spare
    if encoders.busy >= BUSY > decoders.busy:
        wanted, spare = _rescale(encoders, decoders)
        return spare, wanted
    return decoders.size + decoders.waiting, encoders.size + encoders.waiting


def _rescale(slow: Side, idle: Side) -> tuple[int, int]:
    """Return the sizes of the side that holds up, and of the one that waits for it.

    The first at most doubles. The second is left alone while the first may still grow.
    """
    room = slow.most - slow.size
    if room > 0 and not slow.waiting:
        needed = math.ceil(slow.size / max(idle.busy, 0.5))
        return min(max(needed, slow.size + 1), slow.most), idle.size + idle.waiting
    enough = max(math.ceil(idle.size * idle.busy / BUSY), idle.least)
    return slow.size + slow.waiting, min(enough, idle.size)
