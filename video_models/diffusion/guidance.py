"""Classifier-free guidance, and a transformer bound to its condition.

The scale w is that of v_u + w (v_c - v_u): 1 is off, 0 is unconditional. Papers that write (1 + w')
mean w = w' + 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from video_models.text.batch import TextBatch, join

VelocityFunction = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> v: samples (B, C, T, H, W) and times (B,) to velocities of the samples' shape."""

Network = Callable[..., Tensor]
"""`network(latents, t, text, *, text_mask, guidance)`, as `VideoTransformer` has it."""

Scale = Tensor | float
"""w, one number or one a sample, (B,)."""

Combine = Callable[[Tensor, Tensor, Scale, Tensor, Tensor], Tensor]
"""(v_c, v_u, w, x_t, t) -> guided velocity."""


def guide(conditional: Tensor, unconditional: Tensor, scale: Scale) -> Tensor:
    """Return v_u + w (v_c - v_u), w a number or one a sample, (B,).

    Ho & Salimans 2022, arXiv 2207.12598, equation 6, with its w + 1 as w.
    """
    if isinstance(scale, Tensor):
        scale = scale.reshape(-1, *(1,) * (conditional.ndim - 1))
    return unconditional + scale * (conditional - unconditional)


def extrapolated(
    conditional: Tensor, unconditional: Tensor, scale: Scale, x: Tensor, t: Tensor
) -> Tensor:
    """Return `guide` of the first three: guidance as it is."""
    return guide(conditional, unconditional, scale)


def conditioned(
    network: Network, text: TextBatch, *, guidance: Tensor | None = None
) -> VelocityFunction:
    """Return the velocity under a text, one network call.

    Args:
        network: the transformer.
        text: captions (B).
        guidance: scales (B,) for students that take the scale as an input.
    """
    embeddings, mask = text.inputs  # once, so that a network may know them again
    return lambda x, t: network(x, t, embeddings, text_mask=mask, guidance=guidance)


def guided(
    network: Network,
    text: TextBatch,
    empty: TextBatch,
    scale: Scale,
    *,
    combine: Combine = extrapolated,
) -> VelocityFunction:
    """Return the guided velocity: one call on both halves, or on the captions alone where w is 1.

    Args:
        network: the transformer.
        text: captions (B).
        empty: what to steer away from, the empty or a negative caption; a batch of one, or of B.
        scale: w, one number or one a sample, (B,).
        combine: how two velocities become one; see `guidance_rules`.
    """
    if not isinstance(scale, Tensor) and scale == 1:
        return conditioned(network, text)
    if len(empty) == 1:
        empty = empty[torch.zeros(len(text), dtype=torch.long, device=empty.mask.device)]
    both = conditioned(network, join(text, empty))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        conditional, unconditional = both(torch.cat((x, x)), torch.cat((t, t))).chunk(2)
        return combine(conditional, unconditional, scale, x, t)

    return velocity
