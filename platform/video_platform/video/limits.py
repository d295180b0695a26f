"""What a media file may ask of us, and the reasons for which one is refused.

Limits only refuse: they never change a pixel, so they are no part of a cache's identity. A file
beyond a limit, or one that cannot be read, raises `MediaError` with a reason of `REASONS`.
"""

import dataclasses
import math

from video_platform.errors import MediaError

REASONS: dict[str, str] = {
    "bad_rotation": "its display matrix is no turn by a multiple of 90 degrees, nor a mirror",
    "corrupt": "its data are damaged",
    "crash": "the decoder process died on it",
    "empty_file": "it has no bytes",
    "hdr": "it has a high dynamic range, and the policy maps no tones",
    "no_frames": "it opens but shows no frame",
    "no_video_stream": "it holds no video, only sound or data",
    "not_a_file": "there is no such file, or it is no regular file",
    "not_video": "its bytes are no media format",
    "size_changes": "the size of its frames changes midway",
    "timeout": "it took longer than `timeout_s`",
    "too_large": "it has more than `max_bytes` bytes",
    "too_long": "it lasts longer than `max_duration_s`",
    "too_many_frames": "it has more than `max_frames` frames",
    "too_many_pixels": "its frames have more than `max_pixels` pixels",
    "too_much_memory": "it needed more than `max_memory_bytes`",
    "too_short": "it ends before the clip is full",
    "unsupported_codec": "its codec is not on the list that we decode",
    "unsupported_colour": "its colours are coded in a way that we do not convert",
    "unsupported_format": "its container format is not on the list that we open",
}
"""Every reason for which a media file is refused, and what it says."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """Bounds on one media file; beyond one of them it is refused with a reason."""

    max_bytes: int = 4 * 1024**3
    """Size of the file in bytes."""

    max_pixels: int = 4096 * 2304
    """Width times height of a coded frame, checked before its memory is taken."""

    max_duration_s: float = 3600.0
    """Length in seconds."""

    max_frames: int = 250_000
    """Number of frames."""

    max_memory_bytes: int = 2 * 1024**3
    """Memory that the isolated decoder may take on top of its own start-up size."""

    timeout_s: float = 120.0
    """Seconds of wall time for one call of the isolated decoder, then its process is killed."""

    scan_timeout_s: float = 1800.0
    """The same for a scan, which reads a whole video: an hour in 1080p takes a core 6 minutes."""

    threads: int = 1
    """Decoding threads; they change the speed and never a pixel."""

    def __post_init__(self) -> None:
        """Check every number."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} = {value!r}; it must be a number above 0")


def reject(reason: str, detail: str = "") -> MediaError:
    """Return the error for a media file that is refused for a `reason` of `REASONS`."""
    explanation = REASONS[reason]
    return MediaError(reason, f"{explanation} ({detail})" if detail else explanation)
