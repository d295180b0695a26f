"""What the clips of a model look like, in numbers that need no detector.

A clip becomes a thumbnail, a saturation and a motion; the clips of one prompt, a diversity. From
these a student is judged in any world: `jobs/verdict.py`.

Legend: N clips, T frames, H W pixels.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipelines.pixels import to_video
from video_models.metrics.appearance import saturation
from video_models.metrics.motion import motion_magnitude

THUMBNAIL = 8
"""Rows and columns of a thumbnail; smaller than what noise and compression change."""

Key = tuple[int, int]
"""Index of the prompt and seed of a clip."""


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """One clip."""

    thumbnail: NDArray[np.float32] = field(repr=False)
    """Frames of 8 x 8 pixels, (T, 8, 8, 3) in [0, 1]."""
    saturation: float
    """Mean chroma, in [0, 1]."""
    motion: float
    """How far what can be followed moves, in per cent of the frame's smaller side a frame."""
    marks: Mapping[str, bool] = field(default_factory=dict)
    """What a detector found right, by attribute; empty where there is none."""
    suite: str = ""
    """What kind of prompt it was made for; the same marks count apart in each."""


Scores = Mapping[Key, ClipScore]
"""All clips of a model."""


def score_clip(
    frames: NDArray[np.uint8], marks: Mapping[str, bool] | None = None, *, suite: str = ""
) -> ClipScore:
    """Measure one clip, (T, H, W, 3) uint8.

    A clip of one frame moves nowhere.
    """
    video = to_video(torch.from_numpy(frames[None]))  # (1, 3, T, H, W)
    side = min(frames.shape[1:3])
    moves = motion_magnitude(video).item() if len(frames) > 1 else 0.0
    return ClipScore(
        thumbnail=thumbnail_of(frames),
        saturation=saturation(video).item(),
        motion=100 * moves / side,
        marks=dict(marks or {}),
        suite=suite,
    )


def thumbnail_of(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shrink a clip, (T, H, W, 3) uint8, to (T, 8, 8, 3) in [0, 1]."""
    video = to_video(torch.from_numpy(frames[None]))  # (1, 3, T, H, W)
    small = F.adaptive_avg_pool3d(video, (len(frames), THUMBNAIL, THUMBNAIL))
    return np.asarray(((small[0] + 1) / 2).permute(1, 2, 3, 0).numpy(), np.float32)


def difference(one: ClipScore, other: ClipScore) -> float:
    """Return the root mean square difference of two clips' thumbnails, in [0, 1]."""
    return float(np.sqrt(np.mean((one.thumbnail - other.thumbnail) ** 2)))


def differences_at_equal_keys(scores: Scores, others: Scores) -> list[float]:
    """Return how far the clips of two models are from each other, at equal prompts and seeds."""
    return [difference(score, others[key]) for key, score in scores.items() if key in others]


def diversity(scores: Scores) -> dict[int, float]:
    """Return the mean difference between the clips of each prompt that has several seeds."""
    of_prompt: dict[int, list[ClipScore]] = defaultdict(list)
    for (prompt, _), score in scores.items():
        of_prompt[prompt].append(score)
    return {prompt: _mean_pair(clips) for prompt, clips in of_prompt.items() if len(clips) > 1}


def _mean_pair(clips: Sequence[ClipScore]) -> float:
    pairs = [
        difference(one, other) for place, one in enumerate(clips) for other in clips[place + 1 :]
    ]
    return sum(pairs) / len(pairs)
