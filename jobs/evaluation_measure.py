"""Generate the clips of a model, look at them, and keep of them what takes little room.

Legend: B clips, C channels, T frames, H W pixels.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.clip_scores import ClipScore, Key, score_clip
from jobs.evaluation_bench import Bench, Frames
from jobs.evaluation_config import EvaluationConfig
from jobs.evaluation_records import Contender, JudgedClip
from pipelines.clip import write_clip
from pipelines.text_to_video import TextToVideo
from video_platform.video.decode import decode
from video_platform.video.encode import contact_sheet
from video_platform.video.limits import MediaLimits
from video_platform.video.media import Media
from video_platform.video.policy import PixelPolicy

SHEET_CLIPS = 24
"""Most clips on a contact sheet."""


OnClips = Callable[[int, Sequence[Frames]], None]
"""Told after each batch: how many clips are done, and the frames of the last ones as seen."""


def compete(
    contender: Contender,
    model: TextToVideo,
    bench: Bench,
    *,
    config: EvaluationConfig,
    folder: Path,
    on_clips: OnClips = lambda done, frames: None,
) -> tuple[list[JudgedClip], dict[Key, ClipScore], float]:
    """Generate, write and judge every clip of a contender.

    Clip `number` of prompt `index` has seed `first_seed + index * seeds + number`, the same for
    every contender, and no seed comes twice. Of all frames, those of one batch are in memory, and
    those of the contact sheet.

    Returns:
        The clips, what they look like, and the seconds that generating one took.
    """
    keys = _keys(bench, config)
    on_sheet = _spread(len(bench.questions), SHEET_CLIPS)
    judged: list[JudgedClip] = []
    scores: dict[Key, ClipScore] = {}
    shown: dict[int, Frames] = {}
    seconds = 0.0
    for start in range(0, len(keys), config.batch_size):
        batch = keys[start : start + config.batch_size]
        prompts = [bench.questions[index].prompt for index, _ in batch]
        began = time.perf_counter()
        clips = model(prompts, seed=[seed for _, seed in batch], steps=contender.steps)
        seconds += time.perf_counter() - began
        looked: list[Frames] = []
        for (index, seed), clip in zip(batch, clips, strict=True):
            file = f"clips/{contender.slug}/{index:04d}-{seed}.mp4"
            write_clip(clip, folder / file)
            if index in on_sheet:
                shown.setdefault(index, clip.frames)
            media = folder / file if config.measure == "mp4" else None
            looked.append(seen(clip.frames, media, clip.fps))
            about = _Place(contender=contender.name, question=index, seed=seed, file=file)
            one, scores[index, seed] = _judged(about, looked[-1], bench)
            judged.append(one)
        on_clips(len(judged), looked)
    _write_sheet(folder / "sheets" / f"{contender.slug}.png", shown, bench)
    return judged, scores, seconds / len(keys)


def _keys(bench: Bench, config: EvaluationConfig) -> list[Key]:
    """Return the prompt's index and the seed of every clip, in order."""
    indices = [index for index in range(len(bench.questions)) for _ in range(config.seeds)]
    return [(index, config.first_seed + place) for place, index in enumerate(indices)]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a clip stands among all clips."""

    contender: str
    question: int
    seed: int
    file: str


def _judged(place: _Place, frames: Frames, bench: Bench) -> tuple[JudgedClip, ClipScore]:
    """Look at a clip."""
    question = bench.questions[place.question]
    found = bench.examine(frames, question.expected)
    score = score_clip(frames, found.marks, suite=question.split if bench.has_suites else "")
    judged = JudgedClip(
        **vars(place),
        prompt=question.prompt,
        split=question.split,
        marks=dict(found.marks),
        looks={"saturation": score.saturation, "motion": score.motion},
        measures=found.measures,
        answers=found.answers,
        controls=found.controls,
    )
    return judged, score


def seen(frames: Frames, media: Media | None, fps: float) -> Frames:
    """Return what a viewer of a file sees; without one, the frames as they are."""
    if media is None:
        return frames
    length, height, width, _ = frames.shape
    policy = PixelPolicy(frames=length, height=height, width=width, fps=fps)
    return decode(media, policy=policy, limits=MediaLimits()).frames


def _spread(count: int, most: int) -> set[int]:
    """Choose places evenly, the first and the last among them."""
    return set(np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist())


def _write_sheet(path: Path, shown: Mapping[int, Frames], bench: Bench) -> None:
    """Draw one clip for each of some prompts."""
    labels = [bench.questions[index].prompt for index in shown]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contact_sheet(list(shown.values()), labels=labels))
