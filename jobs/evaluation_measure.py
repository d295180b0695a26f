"""Generate the clips of a model, look at them, and look at what its autoencoder does to a clip.

Legend: B clips, C channels, T frames, H W pixels.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jobs.clip_scores import ClipScore, Key, score_clip
from jobs.evaluation_bench import Bench, Frames
from jobs.evaluation_config import EvaluationConfig
from jobs.evaluation_results import Contender, JudgedClip, Measure
from pipelines.clip import CRF, write_clip
from pipelines.model_folder import ModelFolder
from pipelines.pixels import to_frames, to_video
from pipelines.text_to_video import TextToVideo
from video_models.autoencoder.model import Autoencoder
from video_models.metrics.intervals import bootstrap_mean, rate_interval
from video_models.metrics.reconstruction import psnr, ssim
from video_platform.errors import ConfigError
from video_platform.video.decode import decode
from video_platform.video.encode import contact_sheet, encode_mp4
from video_platform.video.limits import MediaLimits
from video_platform.video.media import Media
from video_platform.video.policy import PixelPolicy

SHEET_CLIPS = 24
"""Most clips on a contact sheet."""
REFERENCES = "references"
"""The split of what was measured on unseen clips."""
GROUND_TRUTH = "ground truth"
"""The contender that is always right; its rates are those of the detectors."""
REFERENCE_FPS = 8.0
"""Rate at which references are written and read back; it moves no pixel."""


def compete(
    contender: Contender,
    model: TextToVideo,
    bench: Bench,
    *,
    config: EvaluationConfig,
    folder: Path,
    on_clips: Callable[[int], None] = lambda done: None,
) -> tuple[list[JudgedClip], dict[Key, ClipScore], float]:
    """Generate, write and judge every clip of a contender.

    Clip `number` of prompt `index` has seed `first_seed + index * seeds + number`, the same for
    every contender, and no seed comes twice.

    Returns:
        The clips, what they look like, and the seconds that generating one took.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", contender.name.lower())
    asked = [index for index in range(len(bench.questions)) for _ in range(config.seeds)]
    judged: list[JudgedClip] = []
    scores: dict[Key, ClipScore] = {}
    shown: dict[int, Frames] = {}
    seconds = 0.0
    for start in range(0, len(asked), config.batch_size):
        batch = asked[start : start + config.batch_size]
        seeds = [config.first_seed + start + number for number in range(len(batch))]
        began = time.perf_counter()
        prompts = [bench.questions[index].prompt for index in batch]
        clips = model(prompts, seed=seeds, steps=contender.steps)
        seconds += time.perf_counter() - began
        for index, seed, clip in zip(batch, seeds, clips, strict=True):
            file = f"clips/{slug}/{index:04d}-{seed}.mp4"
            write_clip(clip, folder / file)
            shown.setdefault(index, clip.frames)
            seen = (
                _seen(clip.frames, folder / file, clip.fps)
                if config.measure == "mp4"
                else clip.frames
            )
            marks = bench.judge(seen, bench.questions[index].expected) if bench.judge else {}
            scores[index, seed] = score = score_clip(seen, marks)
            judged.append(_judged(contender, bench, index, seed=seed, file=file, score=score))
        on_clips(len(judged))
    _write_sheet(folder / "sheets" / f"{slug}.png", shown, bench)
    return judged, scores, seconds / len(asked)


def _judged(
    contender: Contender, bench: Bench, index: int, *, seed: int, file: str, score: ClipScore
) -> JudgedClip:
    question = bench.questions[index]
    return JudgedClip(
        contender=contender.name,
        question=index,
        prompt=question.prompt,
        split=question.split,
        seed=seed,
        file=file,
        marks=dict(score.marks),
        looks={"saturation": score.saturation, "motion": score.motion},
    )


def _seen(frames: Frames, media: Media, fps: float) -> Frames:
    """Read back what a viewer of the file sees."""
    length, height, width, _ = frames.shape
    policy = PixelPolicy(frames=length, height=height, width=width, fps=fps)
    return decode(media, policy=policy, limits=MediaLimits()).frames


def _write_sheet(path: Path, shown: Mapping[int, Frames], bench: Bench) -> None:
    """Draw one clip for each of some prompts, evenly chosen."""
    places = np.linspace(0, len(shown) - 1, min(SHEET_CLIPS, len(shown))).round().astype(int)
    chosen = [list(shown)[place] for place in places]
    labels = [bench.questions[index].prompt for index in chosen]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contact_sheet([shown[index] for index in chosen], labels=labels))


def reconstruct(
    models: Mapping[str, Path], bench: Bench, config: EvaluationConfig
) -> Iterator[Measure]:
    """Yield how well each distinct autoencoder repeats the references: PSNR, SSIM, rates.

    The rates are a ceiling: no model can show what its autoencoder cannot. The ground truth's own
    rates are those of the detectors.
    """
    if not bench.references:
        return
    truth = [reference.frames for reference in bench.references]
    yield from judged_rates(GROUND_TRUTH, truth, bench, config)
    known: set[str] = set()
    for name, path in models.items():
        folder = ModelFolder.open(path)
        if folder.card.fingerprints["vae"] in known:
            continue
        known.add(folder.card.fingerprints["vae"])
        label = "autoencoder" if len(known) == 1 else f"autoencoder of {name}"
        video = to_video(torch.from_numpy(np.stack(truth)))
        repeated = _repeat(folder.autoencoder(), video, config.batch_size)
        for measure, values in (("psnr", psnr(repeated, video)), ("ssim", ssim(repeated, video))):
            yield Measure(
                contender=label,
                split=REFERENCES,
                name=measure,
                clips=len(values),
                interval=bootstrap_mean(values, level=config.level, resamples=config.resamples),
            )
        yield from judged_rates(label, list(to_frames(repeated)), bench, config)


def judged_rates(
    contender: str, clips: Sequence[Frames], bench: Bench, config: EvaluationConfig
) -> Iterator[Measure]:
    """Yield how often clips show what the references show, by attribute; nothing without a judge.

    Args:
        contender: who made them.
        clips: one for each reference of the bench, in order.
        bench: references and judge.
        config: whether the judge sees mp4 files, and the intervals' confidence.
    """
    if bench.judge is None:
        return
    marks = []
    for frames, reference in zip(clips, bench.references, strict=True):
        seen = frames
        if config.measure == "mp4":
            mp4 = encode_mp4(frames, fps=REFERENCE_FPS, crf=CRF)
            seen = _seen(frames, mp4, REFERENCE_FPS)
        marks.append(bench.judge(seen, reference.expected))
    for attribute in marks[0]:
        yield Measure(
            contender=contender,
            split=REFERENCES,
            name=attribute,
            clips=len(marks),
            interval=rate_interval([mark[attribute] for mark in marks], level=config.level),
        )


@torch.inference_mode()
def _repeat(autoencoder: Autoencoder, video: Tensor, batch_size: int) -> Tensor:
    """Encode and decode (B, C, T, H, W), clamped."""
    try:
        parts = [
            autoencoder.decode(autoencoder.encode(part).mode())
            for part in torch.split(video, batch_size)
        ]
    except ValueError as error:
        raise ConfigError(f"the references do not fit the autoencoder: {error}") from None
    return torch.cat(parts).clamp(-1, 1)
