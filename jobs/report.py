"""The report of an evaluation: one HTML file that needs nothing but a browser.

Clips are inlined as data URIs and everything that comes from outside is escaped, so the file can be
sent anywhere and opened without a network.
"""

import base64
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.evaluation_records import JudgedClip, Measure, find
from jobs.evaluation_results import EvaluationResult
from jobs.evaluation_statistics import StudentVerdict
from jobs.null_control_results import by_contender
from jobs.report_cells import Bar, bar
from jobs.report_tables import (
    difference_tables,
    is_failure,
    looks_table,
    overview,
    rate_tables,
    splits_of,
    title_of,
    tone_of,
)
from video_models.metrics.intervals import Interval

if TYPE_CHECKING:
    from rich.table import Table

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One prompt with the clips of every contender."""

    prompt: str
    """What was asked."""
    split: str
    """Which prompts it is one of."""
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
    tables = rate_tables(result)
    return environment.get_template("evaluation.html.j2").render(
        result=result,
        title_of=title_of,
        splits=splits_of(result),
        overview=overview(result),
        rate_tables=tables,
        bound=[table for table in tables if "binding" in table.columns],
        difference_tables=difference_tables(result),
        looks=looks_table(result),
        controlled=by_contender(result.controls),
        is_failure=is_failure,
        tone_of=functools.partial(tone_of, result),
        share=functools.partial(share, result),
        reach=_reach(result.differences),
        quality=quality_bars(result),
        rows=rows(result, shown=shown),
        picture=lambda file: data_uri(result.folder / file, "image/png"),
        seeds=_seeds(result.clips),
    )


def share(result: EvaluationResult, interval: Interval, name: str = "share") -> Bar | None:
    """Return an interval as a bar."""
    clips = len(result.clips)
    return bar(Measure(contender="", split="", name=name, clips=clips, interval=interval))


def quality_bars(result: EvaluationResult) -> dict[str, dict[str, Bar | None]]:
    """Return PSNR and SSIM of every autoencoder."""
    measured = [m for m in result.reconstructions if m.name in ("psnr", "ssim")]
    found: dict[str, dict[str, Bar | None]] = {}
    for measure in measured:
        found.setdefault(measure.contender, {})[measure.name] = bar(measure)
    return found


def rows(result: EvaluationResult, *, shown: int) -> list[Shown]:
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


def _row(clips: Sequence[JudgedClip], folder: Path) -> Shown:
    first = clips[0]
    chosen = [clip for clip in clips if clip.seed == first.seed]
    return Shown(
        prompt=first.prompt,
        split=first.split,
        seed=first.seed,
        clips=tuple((clip, data_uri(folder / clip.file)) for clip in chosen),
    )


def data_uri(path: Path, kind: str = "video/mp4") -> str:
    """Return a file as a URI that holds it."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _reach(differences: Sequence[Measure]) -> float:
    """Return how far the axis of differences goes to both sides, in points."""
    ends = [abs(100 * x) for m in differences for x in (m.interval.low, m.interval.high)]
    return max([10.0, *ends]) * 1.08


def _seeds(clips: Sequence[JudgedClip]) -> int:
    """Return how many clips each contender made of each prompt."""
    return len({clip.seed for clip in clips if clip.question == clips[0].question}) if clips else 0


def results_table(result: EvaluationResult, split: str) -> "Table":
    """Return the rates of a split as a table for a terminal: a row a model, a column an attribute.

    There may be many models, but there are few attributes.
    """
    from rich.table import Table

    names = list(dict.fromkeys(m.name for m in result.rates if m.split == split))
    title = f"{split} prompts: clips that are right, {result.level:.0%} intervals"
    table = Table("", title=title, title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for contender in result.contenders:
        bars = (
            bar(find(result.rates, contender=contender.name, name=name, split=split))
            for name in names
        )
        cells = [f"{each.text} [dim]{each.bounds}[/dim]" if each else "" for each in bars]
        table.add_row(contender.name, *cells)
    return table


def verdict_lines(each: StudentVerdict) -> str:
    """Return what a terminal says of a student."""
    if each.verdict.passed:
        return f"[green]{each.student} passes[/green] against {each.teacher}"
    reasons = "\n".join(f"  {reason}" for reason in each.verdict.reasons)
    return f"[red]{each.student} fails[/red] against {each.teacher}\n{reasons}"


def gap_line(gap: Measure) -> str:
    """Return what a terminal says of the gap that a student closes."""
    value, low, high = (f"{100 * x:.0f}" for x in vars(gap.interval).values())
    return (
        f"{gap.contender} closes {value}% of the gap of {gap.against} "
        f"[dim]({low} to {high})[/dim], {gap.split} prompts"
    )


def show(result: EvaluationResult) -> None:
    """Print the table and where everything is."""
    from rich.console import Console

    console = Console()
    for split in splits_of(result) if result.rates else ():
        console.print(results_table(result, split))
    for verdict in result.verdicts:
        console.print(verdict_lines(verdict), highlight=False)
    for gap in result.gaps:
        console.print(gap_line(gap), highlight=False)
    for each in by_contender(result.controls):
        console.print(f"{each.name}: {each.statement}", highlight=False)
    console.print(f"report: {result.folder / 'report.html'}", soft_wrap=True, highlight=False)
