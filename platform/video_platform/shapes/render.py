"""Draw a program."""

import numpy as np
from numpy.typing import NDArray

from video_platform.shapes.geometry import coverage
from video_platform.shapes.program import Program
from video_platform.shapes.world import BACKGROUNDS, PALETTE


def render(program: Program) -> NDArray[np.uint8]:
    """Draw every frame of a program: RGB, (frames, size, size, 3)."""
    background = np.array(BACKGROUNDS[program.background], np.float32)
    frames = np.broadcast_to(background, (program.frames, program.size, program.size, 3)).copy()
    time = np.arange(program.frames, dtype=np.float32)
    for each in program.objects:
        covered = coverage(
            each.shape,
            x=each.x + time * each.vx,
            y=each.y + time * each.vy,
            radius=each.radius,
            height=program.size,
            width=program.size,
        )
        frames += covered[..., None] * (np.array(PALETTE[each.colour], np.float32) - background)
    if program.text is not None:
        covered = program.text.coverage(time, size=program.size)
        frames += covered[..., None] * (
            np.array(PALETTE[program.text.colour], np.float32) - background
        )
    return np.rint(frames).clip(0, 255).astype(np.uint8)
