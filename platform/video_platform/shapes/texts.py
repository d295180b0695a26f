"""The ground truth of a clip of letters: a row in one colour, standing or on a short way."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from video_platform.shapes.letters import ROWS, cells_across, row_coverage, row_of
from video_platform.shapes.world import (
    MARGIN,
    MOTIONS,
    TEXT_TRAVEL,
    WorldConfig,
    row_cell,
    row_motions,
    row_room,
)


@dataclass(frozen=True, kw_only=True)
class MovingText:
    """A row of letters; its top left corner is at (x + frame * vx, y + frame * vy)."""

    letters: str
    """Upper case, from left to right."""
    colour: str
    motion: str
    cell_width: int
    """Of a cell of the font, in pixels."""
    cell_height: int
    """Of a cell of the font, in pixels."""
    x: float
    """Left edge in the first frame, in pixels."""
    y: float
    """Top edge in the first frame, in pixels."""
    vx: float
    """Pixels to the right a frame."""
    vy: float
    """Pixels down a frame."""

    def coverage(self, time: NDArray[np.float32], *, size: int) -> NDArray[np.float32]:
        """Return how much of each pixel is covered at some frames: (T, size, size)."""
        corners = np.stack([self.x + time * self.vx, self.y + time * self.vy], axis=1)
        return row_coverage(
            row_of(self.letters),
            corners=corners.astype(np.float64),
            cell=(self.cell_width, self.cell_height),
            height=size,
            width=size,
        )


def draw_text(config: WorldConfig, rng: np.random.Generator) -> MovingText:
    """Draw a row of letters that begins and ends on whole pixels, so that its edges are sharp."""
    count = int(rng.integers(1, config.max_letters, endpoint=True))
    letters = "".join(config.letters[i] for i in rng.integers(len(config.letters), size=count))
    colour = config.colours[int(rng.integers(len(config.colours)))]
    motions = row_motions(config, count)
    return place_text(
        config, letters, colour=colour, motion=motions[int(rng.integers(len(motions)))], rng=rng
    )


def place_text(
    config: WorldConfig, letters: str, *, colour: str, motion: str, rng: np.random.Generator
) -> MovingText:
    """Draw where a row of letters is and how far it goes."""
    cell = row_cell(config.size, len(letters))
    if cell is None:
        raise ValueError(f"{letters!r} does not fit into {config.size} px: raise size")
    if motion not in row_motions(config, len(letters)):
        raise ValueError(f"{letters!r} has no room to move {motion} in {config.size} px")
    box = np.array([cells_across(len(letters)) * cell[0], ROWS * cell[1]])
    room = row_room(config.size) - box
    direction = np.array(MOTIONS[motion])
    shortest, longest = (share * config.size for share in TEXT_TRAVEL)
    most = min([math.floor(longest), *room[direction != 0].tolist()])
    travel = int(rng.integers(math.ceil(shortest), most, endpoint=True))
    way = travel * direction
    first = math.ceil(MARGIN * config.size) + np.maximum(-way, 0)
    start = first + rng.integers(room - np.abs(way), endpoint=True)
    velocity = (way / (config.frames - 1)).round(4)
    return MovingText(
        letters=letters,
        colour=colour,
        motion=motion,
        cell_width=cell[0],
        cell_height=cell[1],
        x=float(start[0]),
        y=float(start[1]),
        vx=float(velocity[0]),
        vy=float(velocity[1]),
    )
