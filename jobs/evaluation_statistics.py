"""Numbers with intervals from judged clips: rates, means, differences, looks, verdicts.

Pure functions of plain data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.clip_scores import Scores, diversity
from jobs.evaluation_records import ALL, JudgedClip, Measure, by_table, prompt_groups
from jobs.verdict import Verdict, judge
from video_models.metrics.intervals import bootstrap_mean, rate_interval


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


def rates(clips: Sequence[JudgedClip], *, level: float) -> tuple[Measure, ...]:
    """Return the share of right clips by contender, split and attribute, prompts as groups."""
    return tuple(
        Measure(
            contender=name,
            split=split,
            name=attribute,
            clips=len(chosen),
            interval=rate_interval(
                [clip.marks[attribute] for clip in chosen], prompt_groups(chosen), level=level
            ),
        )
        for (name, split), chosen in by_table(clips).items()
        for attribute in chosen[0].marks
    )


def means(clips: Sequence[JudgedClip], *, level: float, resamples: int) -> tuple[Measure, ...]:
    """Return the mean of every measure by contender and split, prompts as groups.

    A clip that has nothing to be measured on, such as one without objects, is left out.
    """
    found = []
    for (name, split), chosen in by_table(clips).items():
        for measure in dict.fromkeys(each for clip in chosen for each in clip.measures):
            held = [clip for clip in chosen if measure in clip.measures]
            values = [clip.measures[measure] for clip in held]
            interval = bootstrap_mean(values, prompt_groups(held), level=level, resamples=resamples)
            found.append(
                Measure(
                    contender=name, split=split, name=measure, clips=len(held), interval=interval
                )
            )
    return tuple(found)


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
    tables = by_table(clips)
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
                interval = bootstrap_mean(
                    steps, prompt_groups(chosen), level=level, resamples=resamples
                )
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
    scores: Mapping[str, Scores], pairs: Sequence[tuple[str, str]]
) -> tuple[StudentVerdict, ...]:
    """Judge each student against its teacher, and against that teacher at the student's steps.

    Args:
        scores: of each contender's clips, by its name.
        pairs: (student, teacher) by name: the teacher first, then the undistilled model.
    """
    found = []
    for student in dict.fromkeys(name for name, _ in pairs):
        teacher, *few = [teacher for name, teacher in pairs if name == student]
        hurried = few[0] if few else None
        at_equal_steps = None if hurried is None else scores[hurried]
        found.append(
            StudentVerdict(
                student=student,
                teacher=teacher,
                hurried=hurried,
                verdict=judge(scores[student], scores[teacher], at_equal_steps),
            )
        )
    return tuple(found)
