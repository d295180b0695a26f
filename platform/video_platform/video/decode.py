"""A media file to the frames of one clip, under a policy and within limits.

    clip = decode(Path("dog.mp4"), policy=PixelPolicy(...), limits=MediaLimits())
    clip.frames  # uint8 (T, H, W, 3)

This runs in the calling process. For files that nobody vouches for, `isolate.IsolatedDecoder`
makes the same call in a process that may crash or hang.
"""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from video_platform.config import pick
from video_platform.video.backends import BACKENDS, why_not_decord
from video_platform.video.limits import MediaLimits
from video_platform.video.media import Media, Video, open_video, sparing_at_first
from video_platform.video.picking import FramePicker
from video_platform.video.policy import PixelPolicy

_INDEX_ENDS = 64  # entries looked at on either end; an hour of video has a hundred thousand
BackendName = Literal["auto", "decord", "pyav"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames of one video under one policy."""

    frames: NDArray[np.uint8]
    """RGB, (T, H, W, 3)."""

    fps: float
    """Frames a second."""

    pts_s: tuple[float, ...]
    """When the picture that each frame shows appears, in seconds after the first."""

    backend: str
    """The decoder that made the pictures; it changes none of them."""

    why: str
    """Why it was this decoder."""

    from_start: bool
    """Whether the file was read from its first frame on; else key frames were jumped to."""


def decode(
    media: Media,
    *,
    policy: PixelPolicy,
    limits: MediaLimits,
    backend: BackendName = "auto",
    start_s: float = 0.0,
) -> Clip:
    """Decode one clip of a video, and no more of the file than it needs.

    Frame k is the one on screen `start_s` + k / fps seconds after the first that the video shows.
    It is reached through key frames; where those cannot be relied on, the file is read from its
    start, with the same result. Damage outside of what is decoded goes unseen; `probe` and `scan`
    would see it.

    Args:
        media: a path, or the bytes of a file.
        policy: size, rate and number of frames, and how they are made.
        limits: what the file may ask of us.
        backend: a decoder by name; `auto` takes PyAV, right wherever decord is, and faster.
        start_s: where the clip begins, in seconds after the first frame that is shown.

    Raises:
        MediaError: the file is refused, for a reason of `limits.REASONS`.
        ConfigError: there is no such backend.
        ValueError: `start_s` is negative.
    """
    job = _Job(media, policy, limits, backend, start_s)
    return sparing_at_first(lambda sparing: _decode(job, sparing=sparing))


class _Job(NamedTuple):
    """The arguments of `decode`."""

    media: Media
    policy: PixelPolicy
    limits: MediaLimits
    backend: BackendName
    start_s: float


def _decode(job: _Job, *, sparing: bool) -> Clip:
    """Decode a clip; `sparing` leaves out what it does not need, else every frame is decoded.

    Raises:
        CannotSeek: something was left out, and that went wrong.
    """
    policy = job.policy
    with open_video(job.media, job.limits, sparing=sparing) as video:
        name, why = choose_backend(video, policy)
        if job.backend != "auto":
            name, why = job.backend, "asked for by name"
        picker = FramePicker(policy, tick=video.tick, start_s=job.start_s)
        frames = np.empty((policy.frames, policy.height, policy.width, 3), np.uint8)
        times: list[float] = []
        for shown in pick(BACKENDS, name, "backend")(job.media, video, picker, job.limits):
            place = slice(len(times), len(times) + shown.repeats)
            frames[place] = video.display.fit(shown.picture, policy)
            times += [shown.time_s] * shown.repeats
            del shown  # its memory serves the next picture
        from_start = not (video.feed.jumped or name == "decord")
    return Clip(
        frames=frames,
        fps=policy.fps,
        pts_s=tuple(times),
        backend=name,
        why=why,
        from_start=from_start,
    )


def choose_backend(video: Video, policy: PixelPolicy) -> tuple[str, str]:
    """Choose the decoder for a video and say why.

    It is PyAV: with frames left out it takes less of the processor than decord on every kind of
    request, see `python -m tests.benchmarks.decode`. What is said is whether there was a choice.
    """
    if reason := why_not_decord(video, policy, entries=_INDEX_ENDS):
        return "pyav", f"decord would get it wrong: {reason}"
    return "pyav", "the faster"
