"""Between frames as people see them and videos as models take them.

Legend: B clips, T frames, H W pixels.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def to_frames(video: Tensor) -> NDArray[np.uint8]:
    """Turn videos (B, 3, T, H, W) in [-1, 1] into uint8 frames (B, T, H, W, 3), clamped."""
    frames = (video.float().clamp(-1, 1) + 1) * 127.5
    array: NDArray[np.uint8] = frames.round().byte().movedim(1, -1).cpu().numpy()
    return array


def to_video(frames: Tensor) -> Tensor:
    """Turn uint8 frames (B, T, H, W, 3) into videos (B, 3, T, H, W) in [-1, 1], float32."""
    return frames.movedim(-1, 1).float() / 127.5 - 1
