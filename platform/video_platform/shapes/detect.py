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

from video_platform.shapes.follow import UNKNOWN, follow, line_through, motion_of
from video_platform.shapes.geometry import coverage
from video_platform.shapes.segment import Blob, segment
from video_platform.shapes.world import Combination, WorldConfig

Frames = NDArray[np.uint8]

MIN_PRESENCE = 0.8
"""Share of the frames that an object must be seen in."""

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
    places: dict[int, tuple[float, float]] = field(compare=False)
    """Centre in pixels, x and y, in each frame in which it is seen."""
    unrest: float = field(compare=False)
    """Distance (rms) from the uniform motion that fits best, in pixels."""

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
    check_clip(frames)
    num_frames, height, width, _ = frames.shape
    blobs = segment(frames, background=background, colours=colours)
    return detect_blobs(blobs, shapes, num_frames=num_frames, side=min(height, width))


def detect_blobs(
    blobs: Sequence[Blob], shapes: Sequence[str], *, num_frames: int, side: int
) -> Detection:
    """Read what the blobs of a clip show."""
    return Detection(
        objects=tuple(
            _describe(track, shapes, num_frames, side)
            for track in follow(blobs, side=side)
            if len(track) >= MIN_PRESENCE * num_frames
        )
    )


def check_clip(frames: Frames) -> None:
    """Refuse what is no clip.

    Raises:
        ValueError: it is not RGB in 8 bits, or shorter than two frames.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2 or frames.dtype != np.uint8:
        raise ValueError(
            f"frames are {frames.dtype} of shape {frames.shape}: "
            "give uint8 of (2 or more, height, width, 3)"
        )


def detect_in(world: WorldConfig, frames: Frames) -> Detection:
    """Read what a clip of `world` shows; its size and length need not be the world's."""
    return detect(frames, background=world.background, colours=world.colours, shapes=world.shapes)


def _describe(
    track: Sequence[Blob], shapes: Sequence[str], num_frames: int, side: int
) -> DetectedObject:
    overlaps = {name: float(found.mean()) for name, found in shape_overlaps(track, shapes).items()}
    radius = float(np.sqrt(np.mean([blob.area for blob in track]) / np.pi))
    places = {blob.frame: (blob.x, blob.y) for blob in track}
    times, centres = list(places), np.array(list(places.values()))
    return DetectedObject(
        colour=track[0].colour,
        shape=_shape(overlaps, min_lead=MIN_LEAD * radius),
        motion=motion_of(times, centres, num_frames=num_frames, side=side),
        overlap=overlaps,
        places=places,
        unrest=line_through(times, centres)[1],
    )


def shape_overlaps(track: Sequence[Blob], shapes: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Compare a track with every outline, drawn at its centres and of its areas, sharp or soft.

    Returns:
        For each shape the overlap in each frame, (T,), at the softness that suits the track best.
    """
    cover = np.stack([blob.cover for blob in track])  # (T, H, W)
    centres: dict[str, Any] = {
        "x": np.array([blob.x for blob in track]),
        "y": np.array([blob.y for blob in track]),
        # All shapes have the area of the circle of their radius.
        "radius": np.sqrt(np.array([blob.area for blob in track]) / np.pi),
    }
    found = {}
    for shape in shapes:
        drawn = coverage(shape, **centres, height=cover.shape[1], width=cover.shape[2])
        found[shape] = max(
            (overlap(cover, soften(drawn, blur)) for blur in BLURS), key=lambda each: each.mean()
        )
    return found


def soften(drawn: NDArray[np.float32], blur: float) -> NDArray[np.float32]:
    """Blur each frame, (T, H, W), by so many pixels (sigma)."""
    return np.asarray(ndimage.gaussian_filter(drawn, (0, blur, blur), truncate=3))


def overlap(cover: NDArray[Any], drawn: NDArray[Any]) -> NDArray[Any]:
    """Return each frame's intersection over union, with products for parts of pixels, (T,).

    Noise enters a product squared; it would enter minimum and maximum as it is.
    """
    both = (cover * drawn).sum((1, 2))
    either = (cover**2).sum((1, 2)) + (drawn**2).sum((1, 2)) - both
    return np.asarray(both / either)


def _shape(overlap: dict[str, float], *, min_lead: float) -> str:
    best, *others = sorted(overlap, key=lambda shape: -overlap[shape])
    lead = overlap[best] - max((overlap[shape] for shape in others), default=0)
    return best if overlap[best] >= MIN_OVERLAP and lead >= min_lead else UNKNOWN
