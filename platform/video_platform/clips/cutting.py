"""From a scanned video to pieces, and from a piece to the bucket that it goes to.

Both are pure functions of the scan and the recipe. What comes of a piece is a `Choice`: a size, or
the reason why there is none.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from video_platform.clips.config import ClipsConfig
from video_platform.video.policy import ClipSize, PixelPolicy
from video_platform.video.scan import Scan

END_S = 0.002
"""A frame that is wanted so shortly before an end counts as behind it, as in `video.picking`."""

ROUNDING = 1.01
"""Sizes are whole pixels, so a picture may be enlarged by so much for nothing."""

ALIKE = 0.05
"""Buckets that crop so much more than the least are as good as that."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What becomes of a piece, apart from filters."""

    size: ClipSize | None = None
    """The bucket; None when it fits none."""
    reason: str = ""
    """Why it fits none."""
    cropped: float = 0.0
    """Share of the displayed picture that is cut off; of the clip that is black with `fit: pad`."""
    shown_s: float = 0.0
    """Seconds of the piece that the clip shows, from its start."""
    repeated_s: float = 0.0
    """Seconds at the end of the clip in which the last frame of a short video is repeated."""


class Stretch(NamedTuple):
    """A part of a video that may become one clip."""

    start_s: float
    """Where it begins, in seconds after the first shown frame."""
    seconds: float
    """How long it lasts."""
    rest: bool = False
    """Whether it is what whole windows left over."""


def cut(scan: Scan, config: ClipsConfig, policy: PixelPolicy) -> Iterator[Stretch]:
    """Cut a video up; without `stride_s` every moment of it is in exactly one part."""
    if config.cut == "whole" or scan.frames == 1:
        yield Stretch(0.0, scan.duration_s)
        return
    longest = max(size.frames for size in config.sizes(policy)) / policy.fps
    window_s = config.window_s or longest
    cuts = scan.cuts_s if config.cut == "scenes" else ()
    for begin, end in zip((0.0, *cuts), (*cuts, scan.duration_s), strict=True):
        yield from _windows(begin, end, window_s, config.stride_s or window_s)


def _windows(begin: float, end: float, window_s: float, stride_s: float) -> Iterator[Stretch]:
    """Lay windows over a scene; the last one ends with it."""
    start, number = begin, 0
    while start + window_s <= end - END_S:
        yield Stretch(start, window_s)
        number += 1
        start = round(begin + number * stride_s, 6)
    if not number or start < end - END_S:
        yield Stretch(start, end - start, rest=number > 0)


def choose(
    scan: Scan, seconds: float, *, whole: bool, config: ClipsConfig, policy: PixelPolicy
) -> Choice:
    """Choose the bucket of a piece.

    Args:
        scan: the video that it is a piece of.
        seconds: how long the piece lasts.
        whole: whether it is all of the video, whose last frame may be repeated.
        config: the buckets.
        policy: rate, how pictures are fitted, and what becomes of a video that is too short.
    """
    sizes = _in_time(scan, seconds, whole=whole, sizes=config.sizes(policy), policy=policy)
    if isinstance(sizes, str):
        return Choice(reason=sizes)
    fits = [(*_fit(scan, size, policy), size) for size in sizes]
    fits = [fit for fit in fits if fit[1] <= config.max_enlarge * ROUNDING]
    if not fits:
        return Choice(reason="too_small")
    least = min(cropped for cropped, *_ in fits)
    good = [fit for fit in fits if fit[0] <= least + ALIKE]
    cropped, _, size = max(good, key=lambda fit: (math.prod(fit[2]), -fit[0], fit[2]))
    clip_s = size.frames / policy.fps
    repeated_s = clip_s - seconds if size.frames > _frames(seconds, policy) else 0.0
    return Choice(size=size, cropped=cropped, shown_s=min(seconds, clip_s), repeated_s=repeated_s)


def _in_time(
    scan: Scan, seconds: float, *, whole: bool, sizes: Sequence[ClipSize], policy: PixelPolicy
) -> list[ClipSize] | str:
    """Return the sizes that a piece is long enough for, or why there is none."""
    if scan.frames == 1:
        return [size for size in sizes if size.frames == 1] or "one_frame"
    moving = [size for size in sizes if size.frames > 1] or sizes
    frames = _frames(seconds, policy)
    fitting = [size for size in moving if size.frames <= frames]
    if not fitting and whole and policy.short == "repeat_last":
        shortest = min(size.frames for size in moving)
        fitting = [size for size in moving if size.frames == shortest]
    return list(fitting) or "too_short"


def _frames(seconds: float, policy: PixelPolicy) -> int:
    """Return how many frames of a clip fall into so many seconds; the first falls on the start."""
    return max(1, math.ceil((seconds - END_S) * policy.fps))


def _fit(scan: Scan, size: ClipSize, policy: PixelPolicy) -> tuple[float, float]:
    """Return the share of the picture that is lost at a size, and how far it is enlarged."""
    across, down = size.width / scan.width, size.height / scan.height
    scale = max(across, down) if policy.fit == "crop" else min(across, down)
    return 1 - min(across, down) / max(across, down), scale
