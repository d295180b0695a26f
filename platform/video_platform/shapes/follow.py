"""Join blobs into tracks, and name how a track moves."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from video_platform.shapes.segment import Blob
from video_platform.shapes.world import MOTIONS

Points = NDArray[np.float64]

UNKNOWN = "unknown"
"""What could not be read with confidence."""

MAX_JUMP = 0.15
"""Furthest that an object may move between two frames, as a share of the frame's side."""

MIN_TRAVEL = 0.07
"""Shortest way in a clip that is a motion, as a share of the frame's side."""

MAX_SLANT = 0.5
"""Largest ratio of the smaller to the larger part of a velocity that still is one direction."""

MAX_UNREST = 0.05
"""Largest distance (rms) from a uniform motion, as a share of the frame's side."""


def follow(blobs: Sequence[Blob], *, side: int, across_colours: bool = False) -> list[list[Blob]]:
    """Join blobs into tracks, each to the nearest of the frames before.

    Args:
        blobs: of all frames.
        side: of the frame, in pixels.
        across_colours: whether a track may change its colour.
    """
    max_jump = MAX_JUMP * side
    tracks: list[list[Blob]] = []
    for frame in sorted({blob.frame for blob in blobs}):
        free = [blob for blob in blobs if blob.frame == frame]
        pairs = sorted(
            (distance, number, place)
            for number, track in enumerate(tracks)
            for place, blob in enumerate(free)
            if (across_colours or blob.colour == track[-1].colour)
            and (distance := _distance(blob, track[-1])) <= max_jump * (frame - track[-1].frame)
        )
        taken_tracks: set[int] = set()
        taken_blobs: set[int] = set()
        for _, number, place in pairs:
            if number not in taken_tracks and place not in taken_blobs:
                tracks[number].append(free[place])
                taken_tracks.add(number)
                taken_blobs.add(place)
        tracks += [[blob] for place, blob in enumerate(free) if place not in taken_blobs]
    return tracks


def _distance(a: Blob, b: Blob) -> float:
    return float(np.hypot(a.x - b.x, a.y - b.y))


def motion_of(times: Sequence[int], centres: Points, *, num_frames: int, side: int) -> str:
    """Name the direction of the straight line that fits some centres best.

    Args:
        times: the frames in which they were seen.
        centres: x and y in pixels, (len(times), 2).
        num_frames: frames in the clip.
        side: of the frame, in pixels.
    """
    velocity, unrest = line_through(times, centres)
    if unrest > MAX_UNREST * side:
        return UNKNOWN
    way = velocity * (num_frames - 1)
    if np.hypot(*way) < MIN_TRAVEL * side:
        return "still"
    if np.abs(way).min() > MAX_SLANT * np.abs(way).max():
        return UNKNOWN
    axis = int(np.abs(way).argmax())
    heading = tuple(int(np.sign(way[axis])) if i == axis else 0 for i in range(2))
    return next(name for name, direction in MOTIONS.items() if direction == heading)


def line_through(times: Sequence[int], centres: Points) -> tuple[Points, float]:
    """Return the velocity that fits some centres best, and their distance (rms) from its line."""
    time = np.array(times, float)
    line = np.stack([time, np.ones_like(time)], axis=1)
    fit, *_ = np.linalg.lstsq(line, centres, rcond=None)
    return np.asarray(fit[0]), float(np.sqrt(((centres - line @ fit) ** 2).sum(1).mean()))
