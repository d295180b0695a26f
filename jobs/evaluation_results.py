"""What an evaluation found: clips and their marks, rates and differences with intervals.

Everything here is plain data and pure functions of it; a table of it goes to JSON and CSV.
"""

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.clip_scores import Scores, diversity
from jobs.verdict import Verdict, judge
from video_models.metrics.intervals import Interval, bootstrap_mean, rate_interval

ALL = "all"
"""The split of all prompts."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model as it was judged."""

    name: str
    """What the tables call it."""
    folder: str
    """Its model folder."""
    kind: str
    """`base` or `student`."""
    identity: str
    """Fingerprint of its weights."""
    run_id: str | None
    """The run that made it."""
    sampler: str
    """Sampler by name."""
    steps: int
    """Steps from noise to clip."""
    guidance: float
    """Scale of guidance; 1 is off."""
    seconds_per_clip: float = 0.0
    """Wall-clock time, in batches, from prompt to frames."""


@dataclass(frozen=True, kw_only=True)
class JudgedClip:
    """One generated clip."""

    contender: str
    """Who made it."""
    question: int
    """Index of its prompt."""
    prompt: str
    """Its prompt."""
    split: str
    """The table that it counts in."""
    seed: int
    """Its seed."""
    file: str
    """The mp4 file, relative to the evaluation's folder."""
    marks: Mapping[str, bool] = field(default_factory=dict)
    """What is right about it, by attribute."""
    looks: Mapping[str, float] = field(default_factory=dict)
    """What needs no detector: its saturation and its motion."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of a table."""

    contender: str
    """Whose number it is."""
    against: str = ""
    """For a difference: from whom."""
    split: str
    """Of which prompts, or `references`."""
    name: str
    """An attribute, `psnr` or `ssim`."""
    clips: int
    """Clips, or pairs of clips, that it was measured on."""
    interval: Interval
    """The number and its bounds."""


@dataclass(frozen=True, kw_only=True)
class StudentVerdict:
    """Whether a student is fit to replace its teacher."""

    student: str
    """Who was judged."""
    teacher: str
    """Against whom."""
    hurried: str | None
    """The teacher at the student's steps, where it was judged too."""
    verdict: Verdict
    """What came of it."""


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
    rates: tuple[Measure, ...]
    """Share of clips that are right, by contender, split and attribute."""
    differences: tuple[Measure, ...]
    """Student minus teacher at equal seeds, by split and attribute."""
    reconstructions: tuple[Measure, ...]
    """The autoencoder on unseen clips, and what the detectors read in clips that are right."""
    measured_on: str
    """`mp4` or `raw`: which frames the judge saw."""
    level: float
    """Confidence of all intervals."""
    looks: tuple[Measure, ...] = ()
    """Saturation, motion and diversity, by contender."""
    verdicts: tuple[StudentVerdict, ...] = ()
    """One for each student."""


def rates(clips: Sequence[JudgedClip], *, level: float) -> tuple[Measure, ...]:
    """Return the share of right clips by contender, split and attribute, prompts as groups."""
    return tuple(
        Measure(
            contender=name,
            split=split,
            name=attribute,
            clips=len(chosen),
            interval=rate_interval(
                [clip.marks[attribute] for clip in chosen], _groups(chosen), level=level
            ),
        )
        for (name, split), chosen in _by_table(clips).items()
        for attribute in chosen[0].marks
    )


def differences(
    clips: Sequence[JudgedClip],
    pairs: Sequence[tuple[str, str]],
    *,
    level: float,
    resamples: int,
) -> tuple[Measure, ...]:
    """Return student minus teacher on clips of equal prompt and seed, with bootstrap intervals.

    Args:
        clips: clips of all contenders.
        pairs: (student, teacher) by name.
        level: confidence.
        resamples: bootstrap draws.
    """
    tables = _by_table(clips)
    measures = []
    for student, teacher in pairs:
        for (name, split), chosen in tables.items():
            if name != student or not chosen[0].marks:
                continue
            other = {(clip.question, clip.seed): clip for clip in tables[teacher, split]}
            partners = [other[clip.question, clip.seed] for clip in chosen]
            for attribute in chosen[0].marks:
                steps = [
                    float(mine.marks[attribute]) - float(theirs.marks[attribute])
                    for mine, theirs in zip(chosen, partners, strict=True)
                ]
                interval = bootstrap_mean(steps, _groups(chosen), level=level, resamples=resamples)
                measures.append(
                    Measure(
                        contender=student,
                        against=teacher,
                        split=split,
                        name=attribute,
                        clips=len(chosen),
                        interval=interval,
                    )
                )
    return tuple(measures)


def looks(scores: Mapping[str, Scores], *, level: float, resamples: int) -> tuple[Measure, ...]:
    """Return saturation, motion and diversity of every contender, prompts as groups.

    Args:
        scores: of each contender's clips, by its name.
        level: confidence.
        resamples: bootstrap draws.
    """
    measures = []
    for name, clips in scores.items():
        prompts = [prompt for prompt, _ in clips]
        spread = diversity(clips)
        columns = {
            "saturation": ([clip.saturation for clip in clips.values()], prompts),
            "motion": ([clip.motion for clip in clips.values()], prompts),
            "diversity": (list(spread.values()), list(spread)),
        }
        for what, (values, groups) in columns.items():
            if values:
                interval = bootstrap_mean(values, groups, level=level, resamples=resamples)
                measures.append(
                    Measure(
                        contender=name, split=ALL, name=what, clips=len(clips), interval=interval
                    )
                )
    return tuple(measures)


def verdicts(
    scores: Mapping[str, Scores], pairs: Sequence[tuple[str, str]], contenders: Sequence[Contender]
) -> tuple[StudentVerdict, ...]:
    """Judge each student against its teacher, and against that teacher at the student's steps.

    Args:
        scores: of each contender's clips, by its name.
        pairs: (student, teacher) by name; a teacher may run at several numbers of steps.
        contenders: the models.
    """
    steps = {contender.name: contender.steps for contender in contenders}
    found = []
    for student in dict.fromkeys(name for name, _ in pairs):
        teachers = [teacher for name, teacher in pairs if name == student]
        teacher = max(teachers, key=steps.__getitem__)
        hurried = next((t for t in teachers if t != teacher), None)
        few = None if hurried is None else scores[hurried]
        found.append(
            StudentVerdict(
                student=student,
                teacher=teacher,
                hurried=hurried,
                verdict=judge(scores[student], scores[teacher], few),
            )
        )
    return tuple(found)


def _by_table(
    clips: Sequence[JudgedClip],
) -> dict[tuple[str, str], list[JudgedClip]]:
    tables: dict[tuple[str, str], list[JudgedClip]] = {}
    for clip in clips:
        tables.setdefault((clip.contender, clip.split), []).append(clip)
    return tables


def _groups(clips: Sequence[JudgedClip]) -> list[int]:
    """Number the prompts: a prompt that was asked twice is one group."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(clip.prompt, len(numbers)) for clip in clips]


def find(
    measures: Sequence[Measure], *, contender: str, name: str, split: str, against: str = ""
) -> Measure | None:
    """Return the measure of this description, if there is one."""
    key = (contender, name, split, against)
    return next((m for m in measures if (m.contender, m.name, m.split, m.against) == key), None)


def as_metrics(result: EvaluationResult) -> dict[str, float]:
    """Return every number under a name fit for a tracking server."""
    named = {}
    for measure in (*result.rates, *result.differences, *result.reconstructions, *result.looks):
        who = measure.contender + (f" minus {measure.against}" if measure.against else "")
        named[f"{who}/{measure.split}/{measure.name}"] = measure.interval.value
    for contender in result.contenders:
        named[f"{contender.name}/seconds_per_clip"] = contender.seconds_per_clip
    for each in result.verdicts:
        named[f"{each.student}/passed"] = float(each.verdict.passed)
    return named


def write_results(result: EvaluationResult) -> None:
    """Write `results.json` (everything) and `results.csv` (a number a row)."""
    tree: dict[str, Any] = dataclasses.asdict(result) | {"folder": "."}
    text = json.dumps(tree, indent=1) + "\n"
    (result.folder / "results.json").write_text(text, encoding="utf-8")
    with (result.folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ("table", "model", "against", "prompts", "measure", "clips", "value", "low", "high")
        )
        for table in ("rates", "differences", "reconstructions", "looks"):
            for m in getattr(result, table):
                numbers = (f"{x:.4f}" for x in (m.interval.value, m.interval.low, m.interval.high))
                writer.writerow((table, m.contender, m.against, m.split, m.name, m.clips, *numbers))
