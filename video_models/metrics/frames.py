"""Where in a clip the quality goes: its first frame, the borders of its chunks, and the rest.

A causal autoencoder treats the first frame alone and turns each later group of frames into one
latent frame, so quality may differ there, and flicker with the groups' rhythm.

Legend: B clips, T frames.
"""

from torch import Tensor

FIRST, BORDER, INSIDE = "first", "border", "inside"
"""The first frame, the first frame of each later group, and all other frames."""


def place_of(frame: int, temporal_factor: int) -> str:
    """Return which place frame number `frame` is in, counted from 0.

    Args:
        frame: index in the clip.
        temporal_factor: frames that become one latent frame, after the first.
    """
    if frame == 0:
        return FIRST
    return BORDER if (frame - 1) % temporal_factor == 0 else INSIDE


def by_place(values: Tensor, temporal_factor: int) -> dict[str, Tensor]:
    """Average a measure of each frame over the places of a clip.

    Args:
        values: (B, T).
        temporal_factor: frames that become one latent frame, after the first.

    Returns:
        (B,) for each place that the clips have, in the order above; where every frame is a group
        of its own there are no borders, only what is inside.
    """
    places = [place_of(frame, temporal_factor) for frame in range(values.shape[1])]
    if temporal_factor == 1:
        places = [INSIDE if place == BORDER else place for place in places]
    return {
        place: values[:, [i for i, each in enumerate(places) if each == place]].mean(1)
        for place in (FIRST, BORDER, INSIDE)
        if place in places
    }
