"""Samplers that remember the step before: more accurate at one network call a step.

Both predict the clean sample and are exact in the linear part of the flow. With l = log(a / s) and
h = l_r - l_t,

    x_r = s_r / s_t x_t + a_r (1 - e^-h) D

where D is the clean sample x0 at t for the first order, and x0 with a correction for a higher one.

Legend: x sample, t time of a step's start, r of its end, u of the step before.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction
from video_models.diffusion.sampler import (
    Callback,
    Renoise,
    denoised,
    grid_steps,
    half_log_snr,
    tell,
)

NOISIEST = 1 - 1e-6
"""Where UniPC takes the logarithm of the signal in place of at 1, as published schedulers do."""


def sample_dpm2m(
    velocity: VelocityFunction,
    noise: Tensor,
    grid: Tensor,
    *,
    callback: Callback | None = None,
    renoise: Renoise | None = None,
) -> Tensor:
    """Extrapolate the clean sample from this step and the last: second order, one call a step.

    DPM-Solver++(2M), Lu et al. 2022, arXiv 2211.01095, algorithm 2. The steps next to 1 and 0,
    where l is infinite, are first order, as is the very first.
    """
    x, before, h_before = noise, None, math.inf
    for index, t, r in grid_steps(grid):
        x0 = denoised(velocity, x, t)
        h = half_log_snr(r) - half_log_snr(t)
        target = x0
        if before is not None and math.isfinite(h) and math.isfinite(h_before):
            target = x0 + h / (2 * h_before) * (x0 - before)
        x = towards(x, target, t, r)
        before, h_before = x0, h
        tell(callback, index, r, x)
    return x


def towards(x: Tensor, target: Tensor, t: float, r: float) -> Tensor:
    """Return s_r / s_t x + a_r (1 - e^-h) target, written without h so that it holds at both ends.

    With the clean sample as the target it is the step of DDIM and of Euler.
    """
    return r / t * x + ((1 - r) - (1 - t) * r / t) * target


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """A step that UniPC has predicted and will correct."""

    start: Tensor
    """The sample at t."""
    t: float
    """Its time."""
    x0: Tensor
    """The clean sample seen there."""
    slope: Tensor | None
    """(x0_u - x0) / r_u where the step was of second order."""
    ratio: float
    """r_u = (l_u - l_t) / h, of the step before; of no meaning at first order."""


def sample_unipc(
    velocity: VelocityFunction,
    noise: Tensor,
    grid: Tensor,
    *,
    callback: Callback | None = None,
    renoise: Renoise | None = None,
) -> Tensor:
    """Predict, then correct the step with what the network says at its end.

    UniPC-2 with B(h) = e^-h - 1 (`bh2`), Zhao et al. 2023, arXiv 2302.04867, algorithms 5 and 6.
    The corrector uses the next step's network call, so that a step costs one. Third order up
    to the last step, which is of first order as in the published schedulers: second in all.
    """
    x, last, count = noise, None, len(grid) - 1
    before: tuple[float, Tensor] | None = None
    for index, t, r in grid_steps(grid):
        x0 = denoised(velocity, x, t)
        if last is not None:
            x = correct(last, x0, t)
        second = before is not None and index < count - 1
        ratio, slope = 0.0, None
        if second and before is not None:
            u, earlier = before
            ratio = (_log_snr(u) - _log_snr(t)) / (_log_snr(r) - _log_snr(t))
            slope = (earlier - x0) / ratio
        last = Corrected(start=x, t=t, x0=x0, slope=slope, ratio=ratio)
        x = towards(x, x0 if slope is None else x0 + slope / 2, t, r)
        before = t, x0
        tell(callback, index, r, x)
    return x


def correct(step: Corrected, ahead: Tensor, r: float) -> Tensor:
    """Return the sample at r again, now that the network has seen it.

    Args:
        step: what was known when it was predicted.
        ahead: the clean sample seen at r.
        r: the time of its end.
    """
    h = _log_snr(r) - _log_snr(step.t)
    new, old = corrector_weights(h, None if step.slope is None else step.ratio)
    target = step.x0 + new * (ahead - step.x0)
    if step.slope is not None:
        target = target + old * step.slope
    return towards(step.start, target, step.t, r)


def corrector_weights(h: float, ratio: float | None) -> tuple[float, float]:
    """Return how much the newest and the older difference count in the corrector.

    They solve sum_k rho_k r_k^(n - 1) = n! phi_(n + 1)(-h) / B(h) for n = 1, 2 with r of the newest
    being 1 (equation 10 of the paper); at first order the newest counts one half.
    """
    if ratio is None:
        return 0.5, 0.0
    b = math.expm1(-h)
    phi_2 = b / -h - 1
    phi_3 = phi_2 / -h - 0.5
    first, second = phi_2 / b, 2 * phi_3 / b
    old = (first - second) / (1 - ratio)
    return first - old, old


def _log_snr(t: float) -> float:
    return half_log_snr(min(t, NOISIEST))
