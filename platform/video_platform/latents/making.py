"""What makes a layer of clips: a function from decoded frames to tensors, opened in an encoder.

Latents, tokens, control maps, masks and embeddings of images are all made on one road: decoders
hand frames to encoders, an encoder calls a `Make` on each batch, and what comes back is stored and
committed under the names that it has. The road knows no more of a layer than this file says: it
opens a `Make` inside each encoder, stores `Made.tensors` (floats in `cache.stored`, whole numbers
as they are), refuses what has a `refusal` or holds what is no number, and hands every `finding` to
the driver, in no order.

Legend: B clips, T frames, H W pixels.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from video_platform.datasets.record import Record
from video_platform.errors import MediaError

Frames = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """What became of one clip."""

    tensors: Mapping[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    """By name, on the CPU; the shape of the first is the clip's bucket. Empty if it is refused."""
    refusal: MediaError | None = None
    """Why the clip can never be in this layer."""
    finding: Any = None
    """Something small for the driver that may be pickled; None is nothing."""


Make = Callable[[Frames, Sequence[Record]], Sequence[Made]]
"""Turns the frames (B, T, H, W, 3) of clips of one size, and their records, into their tensors."""
OpenMake = Callable[[], Make]
"""Opens one inside an encoder; may be pickled."""
OnFinding = Callable[[str, Any], None]
"""Is told the id of a clip and what was found out about it. What it raises ends the run."""
