"""What a media file really holds, found by decoding it from end to end.

Headers are not believed: they claim frames that are not there, rates of 1000 a second and lengths
of years. A file that `probe` accepts has been decoded whole.
"""

import dataclasses

from video_platform.video.limits import MediaLimits
from video_platform.video.media import Media, open_video


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """A readable video, as displayed."""

    frames: int
    """Frames counted by decoding."""

    width: int
    """Width in pixels as displayed, after rotation and with square pixels."""

    height: int
    """Height in pixels as displayed, after rotation and with square pixels."""

    fps: float | None
    """Mean frame rate, (frames - 1) / (last - first time); None for a single frame."""

    duration_s: float
    """Seconds from the first frame's appearance to the last one's disappearance."""

    codec: str
    """Canonical name, such as `h264` or `av1`."""

    rotation: int
    """Degrees clockwise by which the stored picture is turned for display: 0, 90, 180 or 270."""

    mirrored: bool
    """Whether it is shown as a mirror image of what is stored."""

    pixel_format: str
    """FFmpeg's name of the stored format, such as `yuv420p10le`."""


def probe(media: Media, limits: MediaLimits) -> VideoInfo:
    """Decode a media file whole and say what it holds.

    Raises:
        MediaError: it is not readable from end to end, or beyond a limit.
    """
    with open_video(media, limits) as video:
        count, last, span = 0, video.first, 0
        for last, span in video.frames():  # noqa: B007  (the last pair is what we are after)
            count += 1
        width, height = video.display.size(last.width, last.height)
        return VideoInfo(
            frames=count,
            width=width,
            height=height,
            fps=(count - 1) / video.seconds(span) if count > 1 else None,
            duration_s=float(span * video.tick + video.stay_s(last, count=count, span=span)),
            codec=video.stream.codec_context.codec.canonical_name,
            rotation=video.display.orientation.rotation,
            mirrored=video.display.orientation.mirrored,
            pixel_format=last.format.name,
        )
