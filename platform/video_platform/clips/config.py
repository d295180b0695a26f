"""How videos are cut into clips, and which clips are taken: the `clips` section of a recipe."""

import dataclasses
import math
from typing import Literal

from video_platform.clips.filter_config import Filter
from video_platform.video.policy import ClipSize, PixelPolicy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bucket:
    """Clips of one resolution and aspect, in one or several lengths."""

    frames: tuple[int, ...]
    """Lengths; 1 takes images."""

    height: int
    """Height in pixels."""

    width: int
    """Width in pixels."""

    def __post_init__(self) -> None:
        """Check every number."""
        if not self.frames or min(*self.frames, self.height, self.width) < 1:
            raise ValueError(f"bucket {dataclasses.asdict(self)} needs numbers of at least 1")

    @property
    def sizes(self) -> list[ClipSize]:
        """Its sizes, a length each."""
        return [ClipSize(frames, self.height, self.width) for frames in self.frames]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipsConfig:
    """From whole videos to clips. Every video is looked through once, at a low resolution."""

    cut: Literal["whole", "windows", "scenes"] = "whole"
    """`whole` makes one clip of a video, from its beginning; `windows` cuts all of it; `scenes`
    cuts each of its scenes into windows, so that no clip shows a cut."""

    window_s: float | None = None
    """Seconds of a window; None is as long as the longest bucket."""

    stride_s: float | None = None
    """Seconds from the start of a window to that of the next; None is `window_s`, so that they
    touch."""

    buckets: tuple[Bucket, ...] = ()
    """Sizes of clips; none is the one size of the recipe's `pixels`. A piece goes to a bucket that
    it fills: of those that crop least of its picture the one that holds the most pixels. Images go
    to buckets of one frame, and videos only if there is no longer one."""

    max_enlarge: float = 1.0
    """How far a picture may be enlarged; a smaller one is rejected as `too_small`."""

    filters: tuple[Filter, ...] = ()
    """What a clip must be; the first that refuses it is its reason. Near-duplicates are looked for
    among what the filters before let pass."""

    looks_per_s: float = 2.0
    """Looks a second that filters judge by."""

    scene_threshold: float = 3.0
    """How many times the change around it a change must be to be a cut; lower finds more."""

    min_scene_s: float = 0.5
    """Seconds that a scene lasts at least."""

    scan_timeout_s: float = 3600.0
    """Seconds after which the look through one video is given up."""

    def __post_init__(self) -> None:
        """Check every number."""
        for name in (
            *("window_s", "stride_s", "max_enlarge", "looks_per_s"),
            *("scene_threshold", "min_scene_s", "scan_timeout_s"),
        ):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} = {value!r}; it must be a number above 0")
        if self.cut == "whole" and (self.window_s or self.stride_s):
            raise ValueError("window_s and stride_s have no meaning for cut: whole")
        sizes = [size for bucket in self.buckets for size in bucket.sizes]
        twice = next((size for size in sizes if sizes.count(size) > 1), None)
        if twice is not None:
            raise ValueError(f"buckets holds {twice} twice; name each size once")

    def sizes(self, policy: PixelPolicy) -> list[ClipSize]:
        """Return every size that a clip may have, in order."""
        return sorted(size for bucket in self.buckets for size in bucket.sizes) or [policy.size]
