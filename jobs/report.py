"""The report of an evaluation: one HTML file that needs nothing but a browser.

Clips are inlined as data URIs and everything that comes from outside is escaped, so the file can be
sent anywhere and opened without a network.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.evaluation_bench import TRAINED, WITHHELD
from jobs.evaluation_results import ALL, EvaluationResult, JudgedClip, Measure, StudentVerdict, find

if TYPE_CHECKING:
    from rich.table import Table

TEMPLATES = Path(__file__).parent / "templates"
SPLITS = {
    TRAINED: "Trained combinations",
    WITHHELD: "Withheld combinations",
    ALL: "All prompts",
}
"""Splits in the order of the report, and what it calls them."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A share as a bar with its interval, in per cent of the bar's length."""

    value: float
    """Where the bar ends."""
    low: float
    """Where the interval begins."""
    high: float
    """Where it ends."""
    text: str
    """The number as it is written."""
    bounds: str
    """The bounds as they are written."""
    clips: int
    """On how many clips it stands."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt with the clips of every contender."""

    prompt: str
    """What was asked."""
    split: str
    """A key of `SPLITS`."""
    seed: int
    """The seed that all clips of the row share."""
    clips: tuple[tuple[JudgedClip, str], ...]
    """Each contender's clip and its data URI."""


def write_report(result: EvaluationResult, *, shown: int) -> Path:
    """Write `report.html` into the evaluation's folder and return its path."""
    path = result.folder / "report.html"
    path.write_text(render_report(result, shown=shown), encoding="utf-8")
    return path


def render_report(result: EvaluationResult, *, shown: int) -> str:
    """Return the report as HTML, with the clips of `shown` prompts."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    splits = [split for split in SPLITS if any(clip.split == split for clip in result.clips)]
    attributes = list(result.clips[0].marks) if result.clips else []
    return environment.get_template("evaluation.html.j2").render(
        result=result,
        split_names=SPLITS,
        splits=splits,
        attributes=attributes,
        cell=lambda contender, split, name: bar(
            find(result.rates, contender=contender, name=name, split=split)
        ),
        ceiling=lambda contender, name: bar(
            find(result.reconstructions, contender=contender, name=name, split="references")
        ),
        duels=list(dict.fromkeys((m.contender, m.against) for m in result.differences)),
        duel=lambda student, teacher, split, name: difference_bar(
            find(result.differences, contender=student, name=name, split=split, against=teacher)
        ),
        reach=_reach(result.differences),
        repeaters=list(dict.fromkeys(m.contender for m in result.reconstructions)),
        rows=rows(result, shown=shown),
        counts={
            split: len({clip.question for clip in result.clips if clip.split == split})
            for split in splits
        },
        seeds=_seeds(result.clips),
    )


def bar(measure: Measure | None) -> Bar | None:
    """Return a measure as a bar: rates in per cent, others as they are."""
    if measure is None:
        return None
    i = measure.interval
    if measure.name in ("psnr", "ssim"):
        digits, unit, full = (1, " dB", 50.0) if measure.name == "psnr" else (3, "", 1.0)
        text = f"{i.value:.{digits}f}{unit}"
        bounds = f"{i.low:.{digits}f} to {i.high:.{digits}f}"
    else:
        full, text = 1.0, f"{100 * i.value:.0f}%"
        bounds = f"{100 * i.low:.0f} to {100 * i.high:.0f}"
    value, low, high = (min(100.0, max(0.0, 100 * x / full)) for x in (i.value, i.low, i.high))
    return Bar(value=value, low=low, high=high, text=text, bounds=bounds, clips=measure.clips)


def difference_bar(measure: Measure | None) -> Bar | None:
    """Return a difference of rates in percentage points, signed."""
    if measure is None:
        return None
    value, low, high = (100 * x for x in vars(measure.interval).values())
    return Bar(
        value=value,
        low=low,
        high=high,
        text=_signed(value),
        bounds=f"{_signed(low)} to {_signed(high)}",
        clips=measure.clips,
    )


def _signed(points: float) -> str:
    return f"{points:+.0f}".replace("-", "\N{MINUS SIGN}") if abs(points) >= 0.5 else "0"


def rows(result: EvaluationResult, *, shown: int) -> list[Row]:
    """Choose prompts, the same number of every split and evenly spread, with their first clips."""
    by_question: dict[int, list[JudgedClip]] = {}
    for clip in result.clips:
        by_question.setdefault(clip.question, []).append(clip)
    splits = {clip.split: None for clip in result.clips}
    chosen = []
    for split in splits:
        questions = [q for q, clips in by_question.items() if clips[0].split == split]
        count = min(-(-shown // len(splits)), len(questions))
        chosen += [questions[i * len(questions) // count] for i in range(count)]
    return [_row(by_question[question], result.folder) for question in chosen]


def _row(clips: Sequence[JudgedClip], folder: Path) -> Row:
    first = clips[0]
    chosen = [clip for clip in clips if clip.seed == first.seed]
    return Row(
        prompt=first.prompt,
        split=first.split,
        seed=first.seed,
        clips=tuple((clip, data_uri(folder / clip.file)) for clip in chosen),
    )


def data_uri(path: Path) -> str:
    """Return an mp4 file as a URI that holds it."""
    return f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _reach(differences: Sequence[Measure]) -> float:
    """Return how far the axis of differences goes to both sides, in points."""
    ends = [abs(100 * x) for m in differences for x in (m.interval.low, m.interval.high)]
    return max([10.0, *ends]) * 1.08


def _seeds(clips: Sequence[JudgedClip]) -> int:
    """Return how many clips each contender made of each prompt."""
    return len({clip.seed for clip in clips if clip.question == clips[0].question}) if clips else 0


def results_table(result: EvaluationResult) -> "Table":
    """Return the rates as a table for a terminal: a row an attribute, a column a model."""
    from rich.table import Table

    title = f"{result.title}: clips that are right, {result.level:.0%} intervals"
    table = Table("prompts", "attribute", title=title, title_justify="left")
    for contender in result.contenders:
        table.add_column(contender.name, justify="right")
    for split in SPLITS:
        names = dict.fromkeys(m.name for m in result.rates if m.split == split)
        for name in names:
            bars = (
                bar(find(result.rates, contender=contender.name, name=name, split=split))
                for contender in result.contenders
            )
            cells = [f"{each.text} [dim]{each.bounds}[/dim]" if each else "" for each in bars]
            table.add_row(split if name == next(iter(names)) else "", name, *cells)
        table.add_section()
    return table


def verdict_lines(each: StudentVerdict) -> str:
    """Return what a terminal says of a student."""
    if each.verdict.passed:
        return f"[green]{each.student} passes[/green] against {each.teacher}"
    reasons = "\n".join(f"  {reason}" for reason in each.verdict.reasons)
    return f"[red]{each.student} fails[/red] against {each.teacher}\n{reasons}"


def show(result: EvaluationResult) -> None:
    """Print the table and where everything is."""
    from rich.console import Console

    console = Console()
    if result.rates:
        console.print(results_table(result))
    for each in result.verdicts:
        console.print(verdict_lines(each), highlight=False)
    console.print(f"report: {result.folder / 'report.html'}", soft_wrap=True, highlight=False)
