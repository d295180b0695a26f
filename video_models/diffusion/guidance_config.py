"""How the velocities with and without the caption are combined.

Importing this file needs no torch, so that recipes stay light.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """Classifier-free guidance and what tempers it; the defaults are guidance as it is."""

    rule: Literal["apg", "cfg", "cfg_zero"] = "cfg"
    """`cfg` extrapolates from the unconditional velocity, `cfg_zero` from its best multiple
    (CFG-Zero*, for models that are not fully trained), `apg` guides the clean sample with little
    along itself (for high scales without saturation)."""

    rescale: float = 0.0
    """Share to which the guided velocity gets back the standard deviation of the conditional one;
    0.7 is usual at high scales."""

    interval: tuple[float, float] = (0.0, 1.0)
    """Guide only at times above the first and up to the second; outside, one call is enough."""

    zero_above: float = 1.0
    """At times above, the velocity is 0: the first steps of an under-trained model point nowhere.
    CFG-Zero* uses the first 4% of the steps; 1 leaves none out."""

    momentum: float = -0.5
    """`apg`: weight of the steps before; 0 forgets them."""

    limit: float | None = None
    """`apg`: longest difference of the clean samples with and without caption; None for any."""

    eta: float = 0.0
    """`apg`: weight of the difference along the clean sample; 1 keeps it."""

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"interval is {self.interval!r}; it must be (low, high) in [0, 1]")
        if not 0 <= self.rescale <= 1 or not 0 < self.zero_above <= 1:
            raise ValueError(
                f"rescale is {self.rescale!r} and zero_above is {self.zero_above!r}; "
                "rescale must be in [0, 1], zero_above in (0, 1]"
            )
        if not -1 < self.momentum < 1 or not 0 <= self.eta <= 1:
            raise ValueError(
                f"momentum is {self.momentum!r} and eta is {self.eta!r}; "
                "momentum must be between -1 and 1, eta in [0, 1]"
            )
        if self.limit is not None and self.limit <= 0:
            raise ValueError(f"limit is {self.limit!r}; it must be above 0, or null for none")
