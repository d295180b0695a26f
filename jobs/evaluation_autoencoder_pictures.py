"""Show what autoencoders do to clips: curves over frames, a contact sheet, videos side by side.

Legend: T frames, H W pixels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.evaluation_autoencoder_results import AutoencoderEvaluation
from jobs.evaluation_bench import Frames
from jobs.evaluation_ceiling import REFERENCE_FPS
from jobs.side_by_side import GAIN, amplified, side_by_side
from pipelines.clip import CRF
from video_platform.video.encode import contact_sheet, write_mp4

SHEET_CLIPS = 3
"""Clips on the contact sheet."""


def write_videos(
    folder: Path, originals: Sequence[Frames], reconstructions: Mapping[str, Sequence[Frames]]
) -> None:
    """Write a video an autoencoder: the clips that it has, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, repeated in reconstructions.items():
        pairs = zip(originals, repeated, strict=False)
        frames = np.concatenate([side_by_side(a[None], b[None]) for a, b in pairs])
        write_mp4(folder / f"{name}.mp4", frames, fps=REFERENCE_FPS, crf=CRF)


def write_sheet(
    path: Path, originals: Sequence[Frames], reconstructions: Mapping[str, Sequence[Frames]]
) -> None:
    """Draw some clips: the original, then each reconstruction with its amplified difference."""
    rows: list[Frames] = []
    labels: list[str] = []
    for index, original in enumerate(originals[:SHEET_CLIPS]):
        rows.append(original)
        labels.append(f"original {index + 1}")
        for name, repeated in reconstructions.items():
            rows += [repeated[index], amplified(repeated[index], original)]
            labels += [name, f"{name}: difference x {GAIN}"]
    path.write_bytes(contact_sheet(rows, labels=labels))


def write_curves(path: Path, found: AutoencoderEvaluation) -> None:
    """Draw PSNR and SSIM by frame index; a dot marks a first frame of a chunk."""
    curves_figure(found).savefig(path, bbox_inches="tight")


def curves_figure(found: AutoencoderEvaluation) -> Any:
    """Return the curves as a matplotlib figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.4), dpi=120, layout="constrained")
    for axes, name, unit in zip(figure.subplots(1, 2), ("psnr", "ssim"), (", dB", ""), strict=True):
        for each in found.autoencoders:
            values = each.curves[name]
            borders = [0, *range(1, len(values), each.temporal_factor)]
            axes.plot(
                values, marker="o", markevery=borders, markersize=4, linewidth=1.4, label=each.name
            )
        axes.set_xlabel("frame (a dot begins a chunk)")
        axes.set_ylabel(f"{name.upper()}{unit}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper left",
        ncols=len(found.autoencoders),
        frameon=False,
    )
    return figure
