"""Paths from data to noise, and every conversion between what a network may predict on them.

A path is x_t = a(t) x0 + s(t) e with e ~ N(0, I). Nothing else in the project writes such a
formula: other files ask here. The project trains on `rectified_flow`: t in [0, 1], 1 is noise, and
the velocity is v = dx/dt = e - x0.

A network may predict
    x0     the clean sample
    eps    the noise e
    v      the path's velocity, p(t) x0 + q(t) e
    score  the gradient of the log density, -e / s
Given x_t, two of these fix all: a s / p q is a 2 x 2 system whose determinant is 1 on all four
paths (sigma_data for TrigFlow), so that no conversion divides by a time that may be zero, except
where the prediction itself says nothing about the other end (eps -> x0 at a = 0, x0 -> eps at s =
0).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["x0", "eps", "v", "score"]
Schedule = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Path:
    """A noise path; its four coefficients are functions of the time."""

    name: str
    """What it is called."""

    a: Schedule
    """Weight of the clean sample."""

    s: Schedule
    """Weight of the noise."""

    p: Schedule
    """Weight of the clean sample in the velocity."""

    q: Schedule
    """Weight of the noise in the velocity."""

    time_at: Schedule
    """The time at which s / a has a given value."""


def rectified_flow() -> Path:
    """x_t = (1 - t) x0 + t e, v = e - x0 (Liu et al. 2022, arXiv 2209.03003)."""
    return Path(
        name="rectified_flow",
        a=lambda t: 1 - t,
        s=lambda t: t,
        p=lambda t: -torch.ones_like(t),
        q=torch.ones_like,
        time_at=lambda ratio: ratio / (1 + ratio),
    )


def variance_preserving() -> Path:
    """x_t = cos(pi t / 2) x0 + sin(pi t / 2) e, v = a e - s x0.

    Salimans & Ho 2022, arXiv 2202.00512. This v is dx/dt divided by pi / 2.
    """
    half = math.pi / 2
    return Path(
        name="variance_preserving",
        a=lambda t: torch.cos(half * t),
        s=lambda t: torch.sin(half * t),
        p=lambda t: -torch.sin(half * t),
        q=lambda t: torch.cos(half * t),
        time_at=lambda ratio: torch.atan(ratio) / half,
    )


def variance_exploding() -> Path:
    """x_t = x0 + t e, t being EDM's sigma, v = e (Karras et al. 2022, arXiv 2206.00364)."""
    return Path(
        name="variance_exploding",
        a=torch.ones_like,
        s=lambda t: t,
        p=torch.zeros_like,
        q=torch.ones_like,
        time_at=lambda ratio: ratio,
    )


def trigflow(sigma_data: float = 1.0) -> Path:
    """x_t = cos(t) x0 + sin(t) sigma_data e, v = dx/dt, t in [0, pi / 2].

    Lu & Song 2025, arXiv 2410.11081.
    """
    return Path(
        name="trigflow",
        a=torch.cos,
        s=lambda t: sigma_data * torch.sin(t),
        p=lambda t: -torch.sin(t),
        q=lambda t: sigma_data * torch.cos(t),
        time_at=lambda ratio: torch.atan(ratio / sigma_data),
    )


PATHS: dict[str, Callable[[], Path]] = {
    "rectified_flow": rectified_flow,
    "trigflow": trigflow,
    "variance_exploding": variance_exploding,
    "variance_preserving": variance_preserving,
}
"""Paths by name."""

RECTIFIED_FLOW = rectified_flow()


def spread(t: Tensor, x: Tensor) -> Tensor:
    """Return times (B,) shaped so that they multiply x (B, ...)."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def add_noise(x0: Tensor, noise: Tensor, t: Tensor, path: Path = RECTIFIED_FLOW) -> Tensor:
    """Return x_t = a x0 + s e for times (B,)."""
    t = spread(t, x0)
    return path.a(t) * x0 + path.s(t) * noise


def velocity(x0: Tensor, noise: Tensor, t: Tensor, path: Path = RECTIFIED_FLOW) -> Tensor:
    """Return v = p x0 + q e for times (B,); on the rectified flow e - x0."""
    t = spread(t, x0)
    return path.p(t) * x0 + path.q(t) * noise


def ends(
    predicted: Tensor, x_t: Tensor, t: Tensor, *, kind: Prediction, path: Path = RECTIFIED_FLOW
) -> tuple[Tensor, Tensor]:
    """Return the clean sample and the noise that a prediction at (x_t, t) implies.

    Args:
        predicted: what the network said, of shape x_t.
        x_t: what it saw.
        t: at which times, (B,).
        kind: what the network predicts.
        path: the path that x_t lies on.
    """
    t = spread(t, x_t)
    a, s, p, q = path.a(t), path.s(t), path.p(t), path.q(t)
    if kind == "v":
        determinant = a * q - s * p
        return (q * x_t - s * predicted) / determinant, (a * predicted - p * x_t) / determinant
    if kind == "x0":
        return predicted, (x_t - a * predicted) / s
    noise = predicted if kind == "eps" else -s * predicted
    return (x_t - s * noise) / a, noise


def convert(
    predicted: Tensor,
    x_t: Tensor,
    t: Tensor,
    *,
    source: Prediction,
    target: Prediction,
    path: Path = RECTIFIED_FLOW,
) -> Tensor:
    """Return a prediction of one kind as another kind; see `ends` for the arguments."""
    if source == target:
        return predicted
    x0, noise = ends(predicted, x_t, t, kind=source, path=path)
    if target == "x0":
        return x0
    if target == "eps":
        return noise
    if target == "v":
        return velocity(x0, noise, t, path)
    return -noise / path.s(spread(t, x_t))


def change_path(x_t: Tensor, t: Tensor, *, source: Path, target: Path) -> tuple[Tensor, Tensor]:
    """Return the sample and the times at which another path has the same signal-to-noise ratio.

    A network trained on one path is used on another by this map of its input and `convert` of its
    output: x_t on both is the same mixture but for a factor.
    """
    other = target.time_at(source.s(t) / source.a(t))
    size = torch.hypot(source.a(t), source.s(t))
    factor = torch.hypot(target.a(other), target.s(other)) / size
    return x_t * spread(factor, x_t), other
