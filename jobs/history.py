"""What a run has measured, small enough to travel in its checkpoints.

A run may be stopped, killed and moved; what it measured until its newest checkpoint comes along, so
that the curves that it draws at its end begin at its first step.
"""

import math
from collections.abc import Mapping
from typing import Any

MOST_POINTS = 512
"""Points of a curve; with more, every second one goes."""
KEPT = (
    "loss",
    "validation",
    "grad_norm_by_block/",
    "transformer/grad_norm",
    "transformer/learning_rate",
)
"""Beginnings of the names of scalars that are remembered."""

Point = tuple[int, float]
"""A step and a value."""


class History:
    """Curves by name.

    Args:
        kept: beginnings of the names of scalars that are remembered.

    Attributes:
        curves: points in the order of their steps.
        pictures: what other pictures of the run are made of, by name; as JSON.
    """

    def __init__(self, kept: tuple[str, ...] = KEPT) -> None:
        self._kept = kept
        self.curves: dict[str, list[Point]] = {}
        self.pictures: dict[str, Any] = {}

    def note(self, step: int, scalars: Mapping[str, float]) -> None:
        """Remember scalars that are worth it, and finite."""
        for name, value in scalars.items():
            if name.startswith(self._kept) and math.isfinite(value):
                curve = self.curves.setdefault(name, [])
                curve.append((step, float(value)))
                if len(curve) > MOST_POINTS:
                    del curve[1:-1:2]

    def state_dict(self) -> dict[str, Any]:
        """Return everything, as JSON."""
        return {"curves": self.curves, "pictures": self.pictures}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.curves = {
            name: [(int(step), float(value)) for step, value in curve]
            for name, curve in state["curves"].items()
        }
        self.pictures = dict(state["pictures"])
