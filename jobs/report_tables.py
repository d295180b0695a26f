"""The tables of a report: a table a split or suite, a row a model, a column a mark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.evaluation_bench import REFERENCES, TRAINED, WITHHELD
from jobs.evaluation_ceiling import GROUND_TRUTH
from jobs.evaluation_records import ALL, Measure, find
from jobs.evaluation_results import EvaluationResult
from jobs.null_control_results import NullControl
from jobs.null_controls import SHUFFLED_CAPTIONS
from jobs.report_cells import Bar, bar, difference_bar
from video_platform.shapes.benchmark import LOWER_IS_BETTER

SPLITS = {
    TRAINED: "Trained combinations",
    WITHHELD: "Withheld combinations",
    ALL: "All prompts",
}
"""What a report calls splits that are no suites of a benchmark."""

HEADLINES = ("string", "relation", "direction", "exact", "said", "count", "binding")
"""The first of these that a suite marks is the one that stands for it."""

TONES = 6
"""Colours of models, which then begin again."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    name: str
    """Whose numbers."""
    about: str = ""
    """What is said behind the name."""
    tone: str = "plain"
    """The class of its colour."""
    cells: tuple[Bar | None, ...]
    """One for each column."""


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """Everything about the prompts of one kind."""

    split: str
    """Which prompts."""
    title: str
    """What the report calls them."""
    prompts: int
    """How many there are."""
    columns: tuple[str, ...]
    """The marks, and what is measured besides."""
    rows: tuple[Row, ...]
    """The models first, then what limits them."""


def title_of(split: str) -> str:
    """Return what a report calls a split."""
    return SPLITS.get(split, split.capitalize())


def splits_of(result: EvaluationResult) -> dict[str, int]:
    """Return the number of prompts of each split, in the report's order."""
    asked: dict[str, set[int]] = {}
    for clip in result.clips:
        asked.setdefault(clip.split, set()).add(clip.question)
    if asked.keys() <= SPLITS.keys():
        asked = {split: asked[split] for split in SPLITS if split in asked}
    return {split: len(questions) for split, questions in asked.items()}


def marks_of(result: EvaluationResult, split: str) -> list[str]:
    """Return the marks of a split's clips."""
    return list(next((clip.marks for clip in result.clips if clip.split == split), {}))


def rate_tables(result: EvaluationResult) -> list[SplitTable]:
    """Return what is right in each split: models, then the autoencoder and the detectors."""
    tables = []
    for split, prompts in splits_of(result).items():
        marks = marks_of(result, split)
        numbers = dict.fromkeys(m.name for m in result.measures if m.split == split)
        columns = (*marks, *numbers)
        if not columns:
            continue
        rows = [_row(result, c.name, split, columns) for c in result.contenders]
        tables.append(
            SplitTable(
                split=split,
                title=title_of(split),
                prompts=prompts,
                columns=columns,
                rows=(*rows, *_limits(result, split, columns)),
            )
        )
    return tables


def tone_of(result: EvaluationResult, contender: str) -> str:
    """Return the class of a model's colour."""
    names = [each.name for each in result.contenders]
    return f"tone-{names.index(contender) % TONES}"


def _row(result: EvaluationResult, contender: str, split: str, columns: Sequence[str]) -> Row:
    chances = _chances(result.controls, contender, split)
    tables = (*result.rates, *result.measures)
    return Row(
        name=contender,
        tone=tone_of(result, contender),
        cells=tuple(
            bar(find(tables, contender=contender, name=name, split=split), chance=chances.get(name))
            for name in columns
        ),
    )


def _chances(controls: Sequence[NullControl], contender: str, split: str) -> dict[str, float]:
    return {
        each.name: each.chance
        for each in controls
        if (each.contender, each.split) == (contender, split)
        and each.control == SHUFFLED_CAPTIONS
        and each.chance is not None
    }


def _limits(result: EvaluationResult, split: str, columns: Sequence[str]) -> list[Row]:
    """Return what autoencoders leave of clips that are right, and what detectors read in them."""
    names = dict.fromkeys(m.contender for m in result.reconstructions)
    rows = []
    for name in sorted(names, key=lambda each: each == GROUND_TRUTH):
        chances = _chances(result.controls, name, split)
        cells = tuple(
            bar(_reference(result.reconstructions, name, split, mark), chance=chances.get(mark))
            for mark in columns
        )
        if any(cells):
            about = "the detectors" if name == GROUND_TRUTH else "the ceiling"
            rows.append(Row(name=name, about=about, cells=cells))
    return rows


def _reference(
    measures: Sequence[Measure], contender: str, split: str, name: str
) -> Measure | None:
    """Find a number of the references of a suite, or of all where they have no suites."""
    own = find(measures, contender=contender, name=name, split=split)
    return own or find(measures, contender=contender, name=name, split=REFERENCES)


def overview(result: EvaluationResult) -> SplitTable | None:
    """Return one mark of each suite for all models; None where nothing was a benchmark."""
    if not result.benchmark:
        return None
    heads: Mapping[str, str] = {
        split: next(name for name in HEADLINES if name in marks_of(result, split))
        for split in splits_of(result)
    }
    rows = tuple(
        Row(
            name=c.name,
            tone=tone_of(result, c.name),
            cells=tuple(
                bar(
                    find(result.rates, contender=c.name, name=name, split=split),
                    chance=_chances(result.controls, c.name, split).get(name),
                )
                for split, name in heads.items()
            ),
        )
        for c in result.contenders
    )
    return SplitTable(
        split=ALL,
        title="At a glance",
        prompts=sum(splits_of(result).values()),
        columns=tuple(f"{split}: {name}" for split, name in heads.items()),
        rows=rows,
    )


def difference_tables(result: EvaluationResult) -> list[SplitTable]:
    """Return student minus teacher in each split, a row a pair."""
    pairs = dict.fromkeys((m.contender, m.against) for m in result.differences)
    return [
        SplitTable(
            split=split,
            title=title_of(split),
            prompts=prompts,
            columns=tuple(columns),
            rows=tuple(
                Row(
                    name=student,
                    about=f"against {teacher}",
                    cells=tuple(
                        difference_bar(
                            find(
                                result.differences,
                                contender=student,
                                name=name,
                                split=split,
                                against=teacher,
                            )
                        )
                        for name in columns
                    ),
                )
                for student, teacher in pairs
            ),
        )
        for split, prompts in splits_of(result).items()
        if pairs and (columns := marks_of(result, split))
    ]


def looks_table(result: EvaluationResult) -> SplitTable:
    """Return what needs no detector, a row a model."""
    columns = tuple(dict.fromkeys(m.name for m in result.looks))
    return SplitTable(
        split=ALL,
        title=title_of(ALL),
        prompts=sum(splits_of(result).values()),
        columns=columns,
        rows=tuple(
            Row(
                name=c.name,
                tone=tone_of(result, c.name),
                cells=tuple(
                    bar(find(result.looks, contender=c.name, name=name, split=ALL))
                    for name in columns
                ),
            )
            for c in result.contenders
        ),
    )


def is_failure(name: str) -> bool:
    """Say whether a column is better the smaller it is."""
    return name in LOWER_IS_BETTER
