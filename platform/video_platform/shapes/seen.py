"""Look at a clip once, for every question that a benchmark asks of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from video_platform.shapes.detect import (
    DetectedObject,
    Detection,
    Frames,
    check_clip,
    detect_blobs,
    shape_overlaps,
)
from video_platform.shapes.follow import UNKNOWN, follow
from video_platform.shapes.segment import Blob, segment
from video_platform.shapes.spell import Spelling, spell
from video_platform.shapes.world import RELATIONS, WorldConfig

MIN_FOLLOWED = 0.5
"""Share of the frames in which an object is seen, whatever its colour, that makes it followed."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a clip shows: objects or, where letters were looked for, a row of them."""

    detection: Detection = Detection(objects=())
    spelling: Spelling = Spelling(letters="", colour=UNKNOWN, motion=UNKNOWN)
    side: int
    """Of the frame, in pixels."""
    identity: float | None = None
    """Mean share of the frames in which a followed object keeps its colour and shape; None where
    none is followed."""


def read_objects(world: WorldConfig, frames: Frames) -> Seen:
    """Look for objects."""
    check_clip(frames)
    num_frames, side = len(frames), min(frames.shape[1:3])
    blobs = segment(frames, background=world.background, colours=world.colours)
    return Seen(
        detection=detect_blobs(blobs, world.shapes, num_frames=num_frames, side=side),
        side=side,
        identity=_identity(blobs, world.shapes, num_frames=num_frames, side=side),
    )


def read_letters(world: WorldConfig, frames: Frames) -> Seen:
    """Look for a row of letters."""
    return Seen(spelling=spell(world, frames), side=min(frames.shape[1:3]))


def relation_between(first: DetectedObject, second: DetectedObject) -> str:
    """Say where the first object is, seen from the second, in every frame; or `unknown`."""
    times = sorted(first.places.keys() & second.places.keys())
    if not times:
        return UNKNOWN
    offset = np.array([np.subtract(first.places[time], second.places[time]) for time in times])
    for name, (x, y) in RELATIONS.items():
        along, across = offset @ np.array([x, y]), np.abs(offset @ np.array([y, x]))
        if (along > across).all():
            return name
    return UNKNOWN


def _identity(
    blobs: Sequence[Blob], shapes: Sequence[str], *, num_frames: int, side: int
) -> float | None:
    tracks = [
        track
        for track in follow(blobs, side=side, across_colours=True)
        if len(track) >= MIN_FOLLOWED * num_frames
    ]
    if not tracks:
        return None
    return float(np.mean([_keeps(track, shapes).sum() / num_frames for track in tracks]))


def _keeps(track: Sequence[Blob], shapes: Sequence[str]) -> NDArray[np.bool_]:
    """Say for each frame whether an object has the colour and shape of most of its frames, (T,)."""
    colours = [blob.colour for blob in track]
    colour = Counter(colours).most_common(1)[0][0]
    overlaps = np.stack(list(shape_overlaps(track, shapes).values()))  # (shapes, T)
    # One frame of a small object is a close call: its neighbours have a say.
    best = ndimage.uniform_filter1d(overlaps, 3, axis=1, mode="nearest").argmax(0)
    return np.asarray((np.array(colours) == colour) & (best == np.bincount(best).argmax()))
