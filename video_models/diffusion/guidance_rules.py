"""Other ways to combine the velocities with and without the caption than to extrapolate.

At a high scale w classifier-free guidance over-saturates and leaves the data; these keep its effect
and less of the harm. All of them are guidance itself at their neutral settings.

Legend: c conditional, u unconditional, w scale, x sample, t its time, (B, ...) and (B,).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from video_models.diffusion.guidance import (
    Combine,
    Network,
    Scale,
    VelocityFunction,
    conditioned,
    extrapolated,
    guide,
    guided,
)
from video_models.diffusion.guidance_config import GuidanceConfig
from video_models.diffusion.paths import convert, spread
from video_models.text.batch import TextBatch


def from_projection(
    conditional: Tensor, unconditional: Tensor, scale: Scale, x: Tensor, t: Tensor
) -> Tensor:
    """Return s v_u + w (v_c - s v_u), s being the multiple of v_u that is nearest to v_c.

    CFG-Zero* (Fan et al. 2025, arXiv 2503.18886, equation 11).
    """
    s = _dot(conditional, unconditional) / (_dot(unconditional, unconditional) + 1e-8)
    return guide(conditional, spread(s, x).type_as(x) * unconditional, scale)


class AdaptiveProjection:
    """APG: guide the clean sample, less along itself, by steps of bounded length and with memory.

    Sadat et al. 2024, arXiv 2410.02416, algorithm 1: d = x0_c - x0_u plus a (negative) share of the
    steps before is cut to `limit` and split into its part along x0_c, which saturates, and the
    rest; x0 = x0_c + (w - 1) (d_across + eta d_along).

    Args:
        momentum: weight of the steps before; 0 forgets them.
        limit: longest difference of a sample; None for any.
        eta: weight of the part along the sample; 1 keeps it.
    """

    def __init__(self, *, momentum: float, limit: float | None, eta: float) -> None:
        self._momentum, self._limit, self._eta = momentum, limit, eta
        self._past: Tensor | None = None

    def __call__(
        self, conditional: Tensor, unconditional: Tensor, scale: Scale, x: Tensor, t: Tensor
    ) -> Tensor:
        """Return the guided velocity; remembers the difference for the next step."""
        clean, other = (
            convert(v, x, t, source="v", target="x0") for v in (conditional, unconditional)
        )
        d = self._shortened(self._remembered(clean - other))
        along = spread(_dot(d, clean) / _dot(clean, clean).clamp_min(1e-12), x).type_as(x) * clean
        x0 = guide(clean, clean - (d - along + self._eta * along), scale)
        return convert(x0, x, t, source="x0", target="v")

    def _remembered(self, d: Tensor) -> Tensor:
        if self._past is not None:
            d = d + self._momentum * self._past
        self._past = d
        return d

    def _shortened(self, d: Tensor) -> Tensor:
        if self._limit is None:
            return d
        length = _dot(d, d).sqrt().clamp_min(1e-12)
        return d * spread((self._limit / length).clamp_max(1), d).type_as(d)


def rescaled(velocity: Tensor, conditional: Tensor, share: float) -> Tensor:
    """Return a velocity with, to a share, the standard deviation of the conditional one.

    Lin et al. 2023, arXiv 2305.08891, equations 15 and 16.
    """
    wide, narrow = (v.flatten(1).std(dim=1) for v in (velocity, conditional))
    return velocity * spread(share * narrow / wide.clamp_min(1e-12) + 1 - share, velocity)


RULES: dict[str, Callable[[GuidanceConfig], Combine]] = {
    "apg": lambda config: AdaptiveProjection(
        momentum=config.momentum, limit=config.limit, eta=config.eta
    ),
    "cfg": lambda config: extrapolated,
    "cfg_zero": lambda config: from_projection,
}
"""What makes the rule of one trajectory, by name; some rules remember the steps before."""


def open_rule(config: GuidanceConfig) -> Combine:
    """Return the rule of one trajectory, rescaled where the config says so."""
    rule = RULES[config.rule](config)
    if not config.rescale:
        return rule
    return lambda c, u, scale, x, t: rescaled(rule(c, u, scale, x, t), c, config.rescale)


def steered(
    network: Network,
    text: TextBatch,
    empty: TextBatch,
    scale: Scale,
    config: GuidanceConfig,
) -> VelocityFunction:
    """Return the velocity of one trajectory, guided as a config says; see `guided`.

    Outside the interval it costs one call, and above `zero_above` none (Kynkaanniemi et al. 2024,
    arXiv 2404.07724; CFG-Zero*). All samples are at one time.
    """
    both = guided(network, text, empty, scale, combine=open_rule(config))
    if config.interval == (0.0, 1.0) and config.zero_above == 1.0:
        return both
    alone = conditioned(network, text)
    low, high = config.interval

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        now = float(t.flatten()[0])
        if now > config.zero_above:
            return torch.zeros_like(x)
        return both(x, t) if low < now <= high else alone(x, t)

    return velocity


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of each sample, (B,) float32 or wider."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    return (a.to(dtype) * b.to(dtype)).flatten(1).sum(dim=1)
