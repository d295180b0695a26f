"""What an evaluation of autoencoders found: one table, for a terminal, a file and a tracker."""

import csv
import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.evaluation_records import Measure
from video_models.metrics.latents import LatentChannels

if TYPE_CHECKING:
    from rich.table import Table

QUALITY = ("psnr", "ssim", "lpips", "fréchet")
CODE = ("parameters", "pixels per latent", "bits per", "dead channels", "codes used", "perplexity")
SPEED = ("encode", "decode")
"""Groups of rows, by the words that their names begin with; what is in none is the judge's."""


@dataclass(frozen=True, kw_only=True)
class JudgedAutoencoder:
    """One autoencoder as it was judged."""

    name: str
    """What the tables call it."""
    folder: str
    """Where it was opened."""
    kind: str
    """Compression, kind of code and its size: `4x8x8, vae 16`."""
    identity: str
    """Fingerprint of its weights."""
    temporal_factor: int
    """Frames that become one latent frame, after the first."""
    measures: tuple[Measure, ...]
    """Numbers with intervals, over clips."""
    facts: Mapping[str, float]
    """Numbers without."""
    curves: Mapping[str, tuple[float, ...]]
    """PSNR and SSIM by frame index."""
    channels: LatentChannels | None
    """Statistics of the latents; None for tokens."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderEvaluation:
    """Everything that was found."""

    title: str
    """What was evaluated."""
    folder: Path
    """Where tables, pictures and videos are."""
    autoencoders: tuple[JudgedAutoencoder, ...]
    """The autoencoders."""
    ground_truth: tuple[Measure, ...]
    """What the judge says of the clips themselves; empty where there is no judge."""
    clips: tuple[int, int, int, int]
    """Number of clips, and their frames, height and width."""
    level: float
    """Confidence of all intervals."""


def as_metrics(found: AutoencoderEvaluation) -> dict[str, float]:
    """Return every number but the curves under a name fit for a tracking server."""
    named = {f"{m.contender}/{m.name}": m.interval.value for m in found.ground_truth}
    for each in found.autoencoders:
        named |= {f"{each.name}/{m.name}": m.interval.value for m in each.measures}
        for name, value in each.facts.items():
            named[f"{each.name}/{name.replace('é', 'e')}"] = value  # a name takes ASCII alone
    return named


def curve_metrics(found: AutoencoderEvaluation) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the curves: a frame index, and each autoencoder's numbers there."""
    for frame in range(found.clips[1]):
        yield (
            frame,
            {
                f"{each.name}/{name} by frame": values[frame]
                for each in found.autoencoders
                for name, values in each.curves.items()
            },
        )


def write_results(found: AutoencoderEvaluation) -> None:
    """Write `results.json` (everything) and `results.csv` (a number a row)."""
    tree = dataclasses.asdict(found) | {"folder": "."}
    text = json.dumps(tree, indent=1, ensure_ascii=False) + "\n"
    (found.folder / "results.json").write_text(text, encoding="utf-8")
    with (found.folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("autoencoder", "measure", "clips", "value", "low", "high"))
        for m in (*found.ground_truth, *(m for each in found.autoencoders for m in each.measures)):
            numbers = (f"{x:.4f}" for x in (m.interval.value, m.interval.low, m.interval.high))
            writer.writerow((m.contender, m.name, m.clips, *numbers))
        for each in found.autoencoders:
            for name, value in each.facts.items():
                writer.writerow((each.name, name, found.clips[0], f"{value:.6g}", "", ""))


def results_table(found: AutoencoderEvaluation) -> "Table":
    """Return one table for a terminal: a row a measure, a column an autoencoder."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    count, frames, height, width = found.clips
    title = f"{found.title}: {count} clips of {frames} x {height} x {width}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.caption = "psnr in dB, parameters in millions"
    table.add_column("", no_wrap=True)
    for each in found.autoencoders:
        table.add_column(each.name, justify="right", overflow="fold")
    if found.ground_truth:
        table.add_column("truth", justify="right")
    columns = [_cells(each) for each in found.autoencoders]
    if found.ground_truth:
        columns.append({m.name: _number(m.name, m.interval.value) for m in found.ground_truth})
    names = dict.fromkeys(name for column in columns for name in column)
    for group in ("kind", QUALITY, CODE, None, SPEED):
        for name in names:
            if _group(name) == group:
                table.add_row(name, *(column.get(name, "") for column in columns))
        table.add_section()
    return table


def _group(name: str) -> str | tuple[str, ...] | None:
    if name == "kind":
        return name
    return next((group for group in (QUALITY, CODE, SPEED) if name.startswith(group)), None)


def show(found: AutoencoderEvaluation) -> None:
    """Print the table and where everything is."""
    from rich.console import Console

    console = Console()
    console.print(results_table(found))
    console.print(f"pictures and tables: {found.folder}", soft_wrap=True, highlight=False)


def _cells(each: JudgedAutoencoder) -> dict[str, str]:
    """Return what its column says, by row."""
    numbers = {m.name: m.interval.value for m in each.measures} | dict(each.facts)
    kind = each.kind.replace(", ", "\n")
    return {"kind": kind} | {name: _number(name, value) for name, value in numbers.items()}


def _number(name: str, value: float) -> str:
    """Write a number as people read it; rates and shares in per cent."""
    if name.startswith("psnr"):
        return f"{value:.2f}"
    if name in ("ssim", "lpips", "bits per pixel"):
        return f"{value:.3f}"
    if name == "parameters":
        return f"{value / 1e6:.1f}"
    if name.startswith(SPEED):
        return f"{value:.3f}"
    if name == "codes used" or _group(name) is None:
        return f"{100 * value:.0f}%"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
