"""Read colour, shape, motion and count back from pixels.

    frames -> blobs (nearest colour, connected) -> tracks (nearest neighbour, one colour)
           -> shape (overlap with drawn outlines) and motion (least-squares velocity)

Nothing is guessed: an outline that fits no shape well, or two equally well, is `unknown`, as is a
motion between two directions or one that jumps about, and `unknown` never matches a caption.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from video_platform.shapes.geometry import coverage
from video_platform.shapes.segment import Blob, segment
from video_platform.shapes.world import MOTIONS, Combination, WorldConfig

Frames = NDArray[np.uint8]

UNKNOWN = "unknown"
"""What could not be read with confidence."""

MIN_PRESENCE = 0.8
"""Share of the frames that an object must be seen in."""

MAX_JUMP = 0.15
"""Furthest that an object may move between two frames, as a share of the frame's side."""

MIN_TRAVEL = 0.07
"""Shortest way in a clip that is a motion, as a share of the frame's side."""

MAX_SLANT = 0.5
"""Largest ratio of the smaller to the larger part of a velocity that still is one direction."""

MAX_UNREST = 0.05
"""Largest distance (rms) from a uniform motion, as a share of the frame's side."""

BLURS = (0.35, 0.7, 1.1, 1.6)
"""How soft the outlines are that a blob is compared with, in pixels (sigma)."""

MIN_OVERLAP = 0.85
"""Smallest overlap with an outline, in [0, 1], that can be that shape."""

MIN_LEAD = 0.0015
"""Smallest lead in overlap of the best outline over the second, for each pixel of the radius."""


@dataclass(frozen=True, kw_only=True)
class DetectedObject:
    """One object as read from pixels."""

    colour: str
    shape: str
    """A shape's name, or `unknown`."""
    motion: str
    """A motion's name, or `unknown`."""
    overlap: dict[str, float] = field(compare=False)
    """Mean overlap with the outline of every shape."""

    @property
    def combination(self) -> Combination:
        """What a caption would say about this object."""
        return Combination(self.colour, self.shape, self.motion)


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Everything read from one clip."""

    objects: tuple[DetectedObject, ...]

    @property
    def count(self) -> int:
        """How many objects are seen in most frames."""
        return len(self.objects)

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """What a caption would say about each object."""
        return tuple(each.combination for each in self.objects)


_DEFAULT = WorldConfig(num_clips=1)


def detect(
    frames: Frames,
    *,
    background: str = _DEFAULT.background,
    colours: Sequence[str] = _DEFAULT.colours,
    shapes: Sequence[str] = _DEFAULT.shapes,
) -> Detection:
    """Read what a clip shows.

    Args:
        frames: RGB, (T, H, W, 3), two frames or more.
        background: the world's background.
        colours: the colours that the world knows.
        shapes: the shapes that the world knows.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2 or frames.dtype != np.uint8:
        raise ValueError(
            f"frames are {frames.dtype} of shape {frames.shape}: "
            "give uint8 of (2 or more, height, width, 3)"
        )
    num_frames, height, width, _ = frames.shape
    side = min(height, width)
    blobs = segment(frames, background=background, colours=colours)
    tracks = _follow(blobs, max_jump=MAX_JUMP * side)
    return Detection(
        objects=tuple(
            _describe(track, shapes, num_frames, side)
            for track in tracks
            if len(track) >= MIN_PRESENCE * num_frames
        )
    )


def detect_in(world: WorldConfig, frames: Frames) -> Detection:
    """Read what a clip of `world` shows; its size and length need not be the world's."""
    return detect(frames, background=world.background, colours=world.colours, shapes=world.shapes)


def _follow(blobs: Sequence[Blob], *, max_jump: float) -> list[list[Blob]]:
    """Join blobs of one colour into tracks, each to the nearest of the frames before."""
    tracks: list[list[Blob]] = []
    for frame in sorted({blob.frame for blob in blobs}):
        free = [blob for blob in blobs if blob.frame == frame]
        pairs = sorted(
            (distance, number, place)
            for number, track in enumerate(tracks)
            for place, blob in enumerate(free)
            if blob.colour == track[-1].colour
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


def _describe(
    track: Sequence[Blob], shapes: Sequence[str], num_frames: int, side: int
) -> DetectedObject:
    overlap = _overlaps(track, shapes)
    radius = float(np.sqrt(np.mean([blob.area for blob in track]) / np.pi))
    return DetectedObject(
        colour=track[0].colour,
        shape=_shape(overlap, min_lead=MIN_LEAD * radius),
        motion=_motion(track, num_frames, side),
        overlap=overlap,
    )


def _overlaps(track: Sequence[Blob], shapes: Sequence[str]) -> dict[str, float]:
    """Compare a track with every outline, drawn at its centres and of its areas, sharp or soft."""
    cover = np.stack([blob.cover for blob in track])  # (T, H, W)
    centres: dict[str, Any] = {
        "x": np.array([blob.x for blob in track]),
        "y": np.array([blob.y for blob in track]),
        # All shapes have the area of the circle of their radius.
        "radius": np.sqrt(np.array([blob.area for blob in track]) / np.pi),
    }
    overlap = {}
    for shape in shapes:
        drawn = coverage(shape, **centres, height=cover.shape[1], width=cover.shape[2])
        overlap[shape] = max(
            _overlap(cover, ndimage.gaussian_filter(drawn, (0, blur, blur), truncate=3))
            for blur in BLURS
        )
    return overlap


def _overlap(cover: NDArray[np.float32], drawn: NDArray[np.float32]) -> float:
    """Mean over the frames of intersection over union, with products for parts of pixels.

    Noise enters a product squared; it would enter minimum and maximum as it is.
    """
    both = (cover * drawn).sum((1, 2))
    either = (cover**2).sum((1, 2)) + (drawn**2).sum((1, 2)) - both
    return float((both / either).mean())


def _shape(overlap: dict[str, float], *, min_lead: float) -> str:
    best, *others = sorted(overlap, key=lambda shape: -overlap[shape])
    lead = overlap[best] - max((overlap[shape] for shape in others), default=0)
    return best if overlap[best] >= MIN_OVERLAP and lead >= min_lead else UNKNOWN


def _motion(track: Sequence[Blob], num_frames: int, side: int) -> str:
    """Name the direction of the straight line that fits the centres best."""
    time = np.array([blob.frame for blob in track], float)
    centres = np.array([(blob.x, blob.y) for blob in track])
    line = np.stack([time, np.ones_like(time)], axis=1)
    fit, *_ = np.linalg.lstsq(line, centres, rcond=None)
    unrest = float(np.sqrt(((centres - line @ fit) ** 2).sum(1).mean()))
    if unrest > MAX_UNREST * side:
        return UNKNOWN
    way = fit[0] * (num_frames - 1)
    if np.hypot(*way) < MIN_TRAVEL * side:
        return "still"
    if np.abs(way).min() > MAX_SLANT * np.abs(way).max():
        return UNKNOWN
    axis = int(np.abs(way).argmax())
    heading = tuple(int(np.sign(way[axis])) if i == axis else 0 for i in range(2))
    return next(name for name, direction in MOTIONS.items() if direction == heading)
