"""What the autoencoder and the detectors do to clips that are right: the ceiling of every rate.

    references -> autoencoder and back -> PSNR, SSIM, marks      no model can show what it cannot
    references ------------------------> marks, null controls    the detectors' own rate

Legend: B clips, C channels, T frames, H W pixels.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jobs.evaluation_bench import REFERENCES, Bench, Frames, Reference
from jobs.evaluation_config import EvaluationConfig
from jobs.evaluation_measure import seen
from jobs.evaluation_records import JudgedClip, Measure
from jobs.evaluation_statistics import means, rates
from pipelines.clip import CRF
from pipelines.model_folder import ModelFolder
from pipelines.pixels import to_frames, to_video
from video_models.autoencoder.model import Autoencoder
from video_models.metrics.intervals import bootstrap_mean
from video_models.metrics.reconstruction import psnr, ssim
from video_platform.errors import ConfigError
from video_platform.video.encode import encode_mp4

GROUND_TRUTH = "ground truth"
"""The contender that is always right; its rates are those of the detectors."""
REFERENCE_FPS = 8.0
"""Rate at which references are written and read back; it moves no pixel."""


def ceilings(
    models: Mapping[str, Path], bench: Bench, config: EvaluationConfig
) -> tuple[list[JudgedClip], list[Measure]]:
    """Judge the references, and how well each distinct autoencoder repeats them.

    Returns:
        The references as judged clips, whose rates are those of the detectors; and the numbers of
        both: PSNR, SSIM, rates, means.
    """
    if not bench.references:
        return [], []
    truth = judged_references(GROUND_TRUTH, [r.frames for r in bench.references], bench, config)
    measures = [*rates(truth, level=config.level), *_means(truth, config)]
    known: set[str] = set()
    for name, path in models.items():
        folder = ModelFolder.open(path)
        if folder.card.fingerprints["vae"] in known:
            continue
        known.add(folder.card.fingerprints["vae"])
        label = "autoencoder" if len(known) == 1 else f"autoencoder of {name}"
        measures += _repeated(label, folder.autoencoder(), bench, config)
    return truth, measures


def _means(clips: Sequence[JudgedClip], config: EvaluationConfig) -> tuple[Measure, ...]:
    return means(clips, level=config.level, resamples=config.resamples)


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
    yield from rates(judged_references(contender, clips, bench, config), level=config.level)


def judged_references(
    contender: str, clips: Sequence[Frames], bench: Bench, config: EvaluationConfig
) -> list[JudgedClip]:
    """Judge clips that should show what the references show; see `judged_rates`."""
    return [
        _judged(contender, number, frames, bench, config) for number, frames in enumerate(clips)
    ]


def _judged(
    contender: str, number: int, frames: Frames, bench: Bench, config: EvaluationConfig
) -> JudgedClip:
    reference = bench.references[number]
    mp4 = None
    if config.measure == "mp4":
        mp4 = encode_mp4(frames, fps=REFERENCE_FPS, crf=CRF)
    found = bench.examine(seen(frames, mp4, REFERENCE_FPS), reference.expected)
    return JudgedClip(
        contender=contender,
        question=number,
        prompt=f"reference {number}",
        split=reference.split,
        seed=number,
        file="",
        marks=found.marks,
        measures=found.measures,
        answers=found.answers,
        controls=found.controls,
    )


def _repeated(
    label: str, autoencoder: Autoencoder, bench: Bench, config: EvaluationConfig
) -> Iterator[Measure]:
    """Encode and decode the references, a batch at a time, and measure what comes back."""
    judged: list[JudgedClip] = []
    quality: dict[str, list[float]] = {"psnr": [], "ssim": []}
    for start in range(0, len(bench.references), config.batch_size):
        batch = bench.references[start : start + config.batch_size]
        video = video_of(batch)
        repeated = _repeat(autoencoder, video)
        quality["psnr"] += psnr(repeated, video).tolist()
        quality["ssim"] += ssim(repeated, video).tolist()
        part = dataclasses.replace(bench, references=batch)
        judged += [
            dataclasses.replace(clip, question=start + number, prompt=f"reference {start + number}")
            for number, clip in enumerate(
                judged_references(label, list(to_frames(repeated)), part, config)
            )
        ]
    for measure, values in quality.items():
        yield Measure(
            contender=label,
            split=REFERENCES,
            name=measure,
            clips=len(values),
            interval=bootstrap_mean(values, level=config.level, resamples=config.resamples),
        )
    yield from rates(judged, level=config.level)
    yield from _means(judged, config)


def video_of(references: Sequence[Reference]) -> Tensor:
    """Return clips as a video (B, 3, T, H, W) in [-1, 1]."""
    return to_video(torch.from_numpy(np.stack([reference.frames for reference in references])))


@torch.inference_mode()
def _repeat(autoencoder: Autoencoder, video: Tensor) -> Tensor:
    """Encode and decode (B, C, T, H, W), clamped."""
    try:
        return autoencoder.decode(autoencoder.encode(video).mode()).clamp(-1, 1)
    except ValueError as error:
        raise ConfigError(f"the references do not fit the autoencoder: {error}") from None
