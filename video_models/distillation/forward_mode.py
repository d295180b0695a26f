"""The derivative of a network along a direction of its inputs, in one forward pass."""

import torch
from torch import Tensor

from video_models.diffusion.guidance import VelocityFunction


def along(
    network: VelocityFunction, inputs: tuple[Tensor, Tensor], direction: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the network's answer and its derivative along a direction, without a graph.

    The attention inside must know forward mode, as `attend_plainly` does. ZeRO 3 cuts weights up
    and knows none: take a difference there, or ZeRO 2.

    Args:
        network: of samples (B, ...) and times (B,).
        inputs: where.
        direction: how samples and times move.
    """
    value, change = torch.func.jvp(network, inputs, direction)  # type: ignore[misc]
    return value, change
