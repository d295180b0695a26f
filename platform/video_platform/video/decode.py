"""A media file to the frames of one clip, under a policy and within limits.

    clip = decode(Path("dog.mp4"), policy=PixelPolicy(...), limits=MediaLimits())
    clip.frames  # uint8 (T, H, W, 3)

This runs in the calling process. For files that nobody vouches for, `isolate.IsolatedDecoder`
makes the same call in a process that may crash or hang.
"""

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from video_platform.config import pick
from video_platform.video.backends import BACKENDS, why_not_decord
from video_platform.video.limits import MediaLimits
from video_platform.video.media import Media, Video, open_video
from video_platform.video.policy import PixelPolicy

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


def decode(
    media: Media,
    *,
    policy: PixelPolicy,
    limits: MediaLimits,
    backend: BackendName = "auto",
) -> Clip:
    """Decode the clip that begins with a video's first frame, and no more than it needs.

    Damage behind the clip goes unseen; `probe` would see it.

    Args:
        media: a path, or the bytes of a file.
        policy: size, rate and number of frames, and how they are made.
        limits: what the file may ask of us.
        backend: a decoder by name; `auto` takes decord where it is known to be right and faster.

    Raises:
        MediaError: the file is refused, for a reason of `limits.REASONS`.
        ConfigError: there is no such backend.
    """
    with open_video(media, limits) as video:
        name = choose_backend(video, policy) if backend == "auto" else backend
        frames = np.empty((policy.frames, policy.height, policy.width, 3), np.uint8)
        times: list[float] = []
        for picture, time_s, repeats in pick(BACKENDS, name, "backend")(
            media, video, policy, limits
        ):
            frames[len(times) : len(times) + repeats] = video.display.fit(picture, policy)
            times += [time_s] * repeats
    return Clip(frames=frames, fps=policy.fps, pts_s=tuple(times), backend=name)


def choose_backend(video: Video, policy: PixelPolicy) -> str:
    """Choose the decoder for a video: decord where it is right and can skip, else PyAV.

    decord jumps to the key frame before each picked frame, PyAV decodes all that lie between. At
    4 key frames between picks decord takes a third of the time, at 1 or less it takes longer.
    """
    if why_not_decord(video, policy):
        return "pyav"
    keys = [entry.timestamp for entry in video.stream.index_entries if entry.is_keyframe]
    if len(keys) < 2:
        return "pyav"
    key_interval_s = float((keys[-1] - keys[0]) * video.stream.time_base / (len(keys) - 1))
    return "decord" if 1 / policy.fps >= 3 * key_interval_s else "pyav"
