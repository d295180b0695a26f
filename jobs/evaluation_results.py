"""What an evaluation found, and the files that hold it."""

import csv
import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.bias import Bias
from jobs.evaluation_records import Contender, JudgedClip, Measure
from jobs.evaluation_statistics import StudentVerdict
from jobs.memorisation import Memorisation
from jobs.null_control_results import NullControl
from jobs.null_controls import SHUFFLED_CAPTIONS

TABLES = ("rates", "measures", "differences", "gaps", "reconstructions", "looks")
"""The measures of a result, in the order of `results.csv`."""


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Everything that an evaluation found."""

    title: str
    """What was evaluated."""
    folder: Path
    """Where clips, tables, sheets and the report are."""
    contenders: tuple[Contender, ...]
    """The models."""
    clips: tuple[JudgedClip, ...]
    """All generated clips."""
    measured_on: str
    """`mp4` or `raw`: which frames the judge saw."""
    level: float
    """Confidence of all intervals."""
    rates: tuple[Measure, ...] = ()
    """Share of clips that are right, by contender, split and attribute."""
    differences: tuple[Measure, ...] = ()
    """Student minus teacher at equal seeds, by split and attribute."""
    reconstructions: tuple[Measure, ...] = ()
    """The autoencoder on unseen clips, and what the detectors read in clips that are right."""
    looks: tuple[Measure, ...] = ()
    """Saturation, motion and diversity, by contender."""
    verdicts: tuple[StudentVerdict, ...] = ()
    """One for each student."""
    gaps: tuple[Measure, ...] = ()
    """Share of the gap between the undistilled model and the teacher that each student closes."""
    measures: tuple[Measure, ...] = ()
    """Means of what is no yes or no, by contender, split and name."""
    controls: tuple[NullControl, ...] = ()
    """Every mark without what was asked; those of the ground truth first."""
    biases: tuple[Bias, ...] = ()
    """What is shown where a prompt leaves something open, by contender and attribute."""
    copies: tuple[Memorisation, ...] = ()
    """How near each contender's clips are to its training clips."""
    distances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Fréchet distances by contender, under names that say what they are."""
    benchmark: Mapping[str, str | int] = field(default_factory=dict)
    """What names the benchmark: its version, the world's hash, prompts and seeds; empty where it
    was none."""


def as_metrics(result: EvaluationResult) -> dict[str, float]:
    """Return every number under a name fit for a tracking server."""
    named = {}
    for table in TABLES:
        for m in getattr(result, table):
            against = f" minus {m.against}" if m.against and table == "differences" else ""
            named[f"{m.contender}{against}/{m.split}/{m.name}"] = m.interval.value
    for contender in result.contenders:
        named[f"{contender.name}/seconds_per_clip"] = contender.seconds_per_clip
    for each in result.verdicts:
        named[f"{each.student}/passed"] = float(each.verdict.passed)
    return named | dict(_looked_into(result))


def _looked_into(result: EvaluationResult) -> Iterator[tuple[str, float]]:
    for control in result.controls:
        where = f"{control.contender}/{control.split}/{control.name}"
        yield f"{where} {control.control}", control.interval.value
        if control.chance is not None and control.control == SHUFFLED_CAPTIONS:
            yield f"{where} chance", control.chance
    for bias in result.biases:
        yield f"{bias.contender}/bias/{bias.attribute}", bias.distance.value
    for copies in result.copies:
        for name in ("ratio", "nearer", "close"):
            yield f"{copies.contender}/copies/{name}", getattr(copies, name).value
    for contender, distances in result.distances.items():
        for name, value in distances.items():
            # A tracking server takes letters of ASCII, and no commas.
            yield f"{contender}/{name.replace('é', 'e').replace(',', '')}", value


def write_results(result: EvaluationResult) -> None:
    """Write `results.json` (everything) and `results.csv` (a number a row).

    Of the null controls they hold what came of all clips together.
    """
    tree: dict[str, Any] = dataclasses.asdict(result) | {"folder": "."}
    for clip in (*tree["clips"], *(clip for each in tree["copies"] for clip in each["closest"])):
        del clip["controls"]
    text = json.dumps(tree, indent=1) + "\n"
    (result.folder / "results.json").write_text(text, encoding="utf-8")
    with (result.folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ("table", "model", "against", "prompts", "measure", "clips", "value", "low", "high")
        )
        for table in TABLES:
            for m in getattr(result, table):
                numbers = (f"{x:.4f}" for x in (m.interval.value, m.interval.low, m.interval.high))
                writer.writerow((table, m.contender, m.against, m.split, m.name, m.clips, *numbers))
