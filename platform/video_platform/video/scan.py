"""One look over a whole video at low resolution: what it takes to cut it into clips and judge them.

    found = scan(Path("dog.mp4"), ScanConfig(scenes=True), MediaLimits())
    found.cuts_s, found.samples[0].motion

A scan reads a file from end to end once and keeps a few numbers about a small picture at even
times. Clips are planned and filtered from those numbers; no picture is decoded for it again.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Self

import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from video_platform.video.colour import has_full_range, is_hdr
from video_platform.video.limits import MediaLimits
from video_platform.video.media import Media, Video, open_video, sparing_at_first
from video_platform.video.picking import TOLERANCE_S, FramePicker
from video_platform.video.policy import PixelPolicy

Small = NDArray[np.uint8]  # (side, side), or (side, side, 3) in blue, green, red

_HASH_SIDE = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """How closely a scan looks."""

    looks_per_s: float = 2.0
    """Looks a second: `looks_per_s` = 2 looks at the picture on screen at 0, 0.5, 1 ... s."""

    side: int = 64
    """Rows and columns of the small picture that is looked at, whatever the shape of the video."""

    scenes: bool = False
    """Whether cuts between scenes are looked for; it takes a small picture of every frame."""

    scene_threshold: float = 3.0
    """How many times the change around it a change must be to be a cut; lower finds more."""

    min_scene_s: float = 0.5
    """Seconds that a scene lasts at least; cuts closer to the one before are left out."""

    def __post_init__(self) -> None:
        """Check every number."""
        for name in ("looks_per_s", "scene_threshold", "min_scene_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} = {value!r}; it must be a number above 0")
        if not _HASH_SIDE <= self.side <= 512:
            raise ValueError(f"side = {self.side!r}; it must be {_HASH_SIDE} to 512")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """What a scan saw at one moment."""

    time_s: float
    """When, in seconds after the first shown frame."""

    luma: float
    """Mean luma, 0 (black) to 255 (white)."""

    contrast: float
    """Standard deviation of luma over the picture."""

    motion: float
    """Mean absolute difference of luma to the next look's picture, 0 to 255; 0 for the last."""

    hash: str
    """Perceptual hash of the picture: 64 bits as 16 hexadecimal digits. Pictures that look alike
    differ in few bits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
    """What a readable video holds from its first to its last frame."""

    frames: int
    """Frames from the first to the last that is shown."""

    duration_s: float
    """Seconds from the first frame's appearance to the last one's disappearance."""

    width: int
    """Width in pixels as displayed, after rotation and with square pixels."""

    height: int
    """Height in pixels as displayed, after rotation and with square pixels."""

    fps: float
    """Mean frame rate, (frames - 1) / (last - first time); for one frame, one over its duration,
    or 0 if it has none."""

    codec: str
    """Canonical name, such as `h264` or `av1`."""

    hdr: bool
    """Whether its transfer function is one of high dynamic range, PQ or HLG."""

    cuts_s: tuple[float, ...]
    """When new scenes begin, in seconds after the first frame; ascending, never 0."""

    samples: tuple[Look, ...]
    """Looks in the order of time, `looks_per_s` of them a second."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a scan from what `dataclasses.asdict` gives, also after a round trip by JSON."""
        looks = tuple(Look(**look) for look in data["samples"])
        return cls(**{**data, "samples": looks, "cuts_s": tuple(data["cuts_s"])})


def scan(media: Media, config: ScanConfig, limits: MediaLimits) -> Scan:
    """Look through a media file once, from its first to its last frame.

    Frames that no other refers to and that no look meets are counted and not decoded, unless cuts
    are looked for: damage of theirs goes unseen.

    Raises:
        MediaError: it is not readable from end to end, or beyond a limit.
    """
    if config.scenes:
        return _scan(media, config, limits, sparing=False)
    return sparing_at_first(lambda sparing: _scan(media, config, limits, sparing=sparing))


def _scan(media: Media, config: ScanConfig, limits: MediaLimits, *, sparing: bool) -> Scan:
    with open_video(media, limits, sparing=sparing) as video:
        picker = _even_times(config, limits, tick=video.tick)
        watch = _Watch(config, video, threads=limits.threads)
        count, on_screen, since = 0, video.first, 0
        for frame, time in video.frames(picker if sparing else None, jumps=False):
            watch.look(on_screen, times=picker.until(time))
            watch.compare(frame, time)
            on_screen, since, count = frame, time, count + 1
        frames = video.feed.num_shown if video.feed.skipped else count
        stay_s = video.stay_s(on_screen, count=frames, span=since)
        end = since + max(1, math.floor((stay_s - TOLERANCE_S) / video.tick))
        watch.look(on_screen, times=picker.until(end))
        return _summary(video, watch, frames=frames, span=since, stay_s=stay_s)


def _summary(video: Video, watch: "_Watch", *, frames: int, span: int, stay_s: Fraction) -> Scan:
    width, height = video.display.size(video.first.width, video.first.height)
    fps = (frames - 1) / video.seconds(span) if frames > 1 else float(stay_s and 1 / stay_s)
    return Scan(
        frames=frames,
        duration_s=float(span * video.tick + stay_s),
        width=width,
        height=height,
        fps=fps,
        codec=video.stream.codec_context.codec.canonical_name,
        hdr=is_hdr(video.first),
        cuts_s=tuple(watch.cuts_s),
        samples=tuple(watch.looks),
    )


def _even_times(config: ScanConfig, limits: MediaLimits, *, tick: Fraction) -> FramePicker:
    """Return a picker of as many looks as the longest video allows."""
    looks = math.ceil(limits.max_duration_s * config.looks_per_s) + 1
    policy = PixelPolicy(
        frames=looks, height=config.side, width=config.side, fps=config.looks_per_s
    )
    return FramePicker(policy, tick=tick)


class _Watch:
    """Makes small pictures of frames, and numbers of them.

    Attributes:
        looks: what was seen so far.
        cuts_s: where scenes began so far.
    """

    def __init__(self, config: ScanConfig, video: Video, *, threads: int) -> None:
        self.looks: list[Look] = []
        self.cuts_s: list[float] = []
        self._config = config
        self._video = video
        self._threads = threads
        self._reformatters = {"gray": VideoReformatter(), "bgr24": VideoReformatter()}
        self._detect = _cut_detector(config, video) if config.scenes else None
        self._before: NDArray[np.float32] | None = None

    def look(self, frame: Any, *, times: int) -> None:
        """Look at the frame that is on screen at the next so many looks."""
        if not times:
            return
        luma = self._small(frame, "gray").astype(np.float32)
        if self._before is not None:
            motion = float(np.abs(luma - self._before).mean())
            self.looks[-1] = dataclasses.replace(self.looks[-1], motion=motion)
        self._before = luma
        look = Look(
            time_s=0.0,
            luma=float(luma.mean()),
            contrast=float(luma.std()),
            motion=0.0,
            hash=perceptual_hash(luma),
        )
        for _ in range(times):
            time_s = len(self.looks) / self._config.looks_per_s
            self.looks.append(dataclasses.replace(look, time_s=time_s))

    def compare(self, frame: Any, time: int) -> None:
        """Compare a frame with those before it: a scene may begin with one of them."""
        if self._detect is not None:
            self.cuts_s += self._detect(self._small(frame, "bgr24"), time)

    def _small(self, frame: Any, pixel_format: str) -> Small:
        """Return a small picture of a frame, upright."""
        small = self._reformatters[pixel_format].reformat(
            frame,
            width=self._config.side,
            height=self._config.side,
            format=pixel_format,
            interpolation=Interpolation.AREA,
            src_color_range=ColorRange.JPEG if has_full_range(frame) else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            threads=self._threads,
        )
        return self._video.display.orientation.apply(np.asarray(small.to_ndarray(), np.uint8))


def _cut_detector(config: ScanConfig, video: Video) -> Callable[[Small, int], list[float]]:
    """Return what takes every frame and its ticks after the first, and gives cuts in seconds."""
    from scenedetect import AdaptiveDetector, FrameTimecode
    from scenedetect.common import Timecode

    detector = AdaptiveDetector(
        adaptive_threshold=config.scene_threshold, min_scene_len=float(config.min_scene_s)
    )
    rate = Fraction(video.stream.average_rate or 25)

    def detect(small: Small, time: int) -> list[float]:
        now = FrameTimecode(Timecode(pts=time, time_base=video.tick), rate)
        return [cut.seconds for cut in detector.process_frame(now, small)]

    return detect


def perceptual_hash(luma: NDArray[Any]) -> str:
    """Return 64 bits of a square picture (side, side): which waves in it are above their median.

    The waves are the 8 x 8 lowest of its cosine transform (Zauner 2010, section 3.2); the constant
    one has no say. A flat picture has none above.
    """
    side = len(luma)
    waves, places = np.arange(_HASH_SIDE)[:, None], np.arange(side)[None, :]
    cosines = np.cos(np.pi * waves * (2 * places + 1) / (2 * side))
    strengths = (cosines @ luma @ cosines.T / side).round(2).ravel()
    above = strengths > np.median(strengths[1:])
    above[0] = False
    return np.packbits(above).tobytes().hex()
