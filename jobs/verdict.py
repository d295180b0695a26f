"""Is a student fit to replace its teacher? A pure function from what was measured to a verdict.

Distillation fails quietly: losses fall while all clips become alike, stand still, glow, or stay
what the teacher makes in as few steps. Each of these has a name here, a number and a limit.
"""

from dataclasses import dataclass

from jobs.clip_scores import Scores, differences_at_equal_keys, diversity
from video_models.metrics.intervals import Interval, bootstrap_mean
from video_platform.shapes.benchmark import LOWER_IS_BETTER


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far a student may fall behind its teacher."""

    accuracy_drop: float = 0.05
    """Largest fall in the share of clips that are right, of any attribute of any suite, and largest
    rise in that of a failure."""

    diversity: float = 0.9
    """Least diversity, as a share of the teacher's."""

    motion: float = 0.7
    """Least motion, as a share of the teacher's."""

    saturation: float = 1.25
    """Most saturation, as a multiple of the teacher's; its inverse is the least."""

    novelty: float = 0.2
    """Least distance from the undistilled model at the student's steps, as a share of that model's
    distance from the teacher. Below it distillation has done nothing."""

    worth: float = 0.01
    """Distances of the undistilled model from the teacher below this (root mean square, of 1) leave
    nothing to distil: then novelty is not asked."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One number against its limit."""

    name: str
    """`less_accurate`, `collapsed`, `frozen`, `over_saturated`, `faded` or `unchanged`."""
    what: str
    """What was measured, for a person."""
    interval: Interval
    """The number and its bounds."""
    limit: float
    """What it is held against."""
    failed: bool
    """Whether the limit is crossed beyond doubt, by the whole interval."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of it."""

    findings: tuple[Finding, ...]
    """Every limit that was looked at."""

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The limits that are crossed."""
        return tuple(finding for finding in self.findings if finding.failed)

    @property
    def passed(self) -> bool:
        """Whether no limit is crossed."""
        return not self.failures

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it did not pass, a sentence each."""
        return tuple(
            f"{f.name}: {f.what} is {f.interval.value:.3g} "
            f"({f.interval.low:.3g} to {f.interval.high:.3g}), the limit is {f.limit:.3g}"
            for f in self.failures
        )


def judge(
    student: Scores, teacher: Scores, hurried: Scores | None = None, limits: Limits | None = None
) -> Verdict:
    """Judge a student by its clips and those of its teacher for the same prompts and seeds.

    Args:
        student: its clips.
        teacher: the teacher's, at all its steps.
        hurried: the teacher's at the student's steps; None does not ask whether anything changed.
        limits: how far it may fall behind.

    Raises:
        ValueError: the two have no prompt and seed in common.
    """
    limits = limits or Limits()
    common = [key for key in student if key in teacher]
    if not common:
        raise ValueError("student and teacher have no clip of equal prompt and seed")
    student, teacher = ({key: each[key] for key in common} for each in (student, teacher))
    findings = [
        *_accuracy(student, teacher, limits),
        *_look(student, teacher, limits),
    ]
    if hurried is not None:
        findings += _novelty(student, teacher, hurried, limits)
    return Verdict(findings=tuple(findings))


def _accuracy(student: Scores, teacher: Scores, limits: Limits) -> list[Finding]:
    """Compare every mark of every suite at equal prompts and seeds.

    A mark that names a failure, such as `swapped`, may rise as far as others may fall.
    """
    seen = dict.fromkeys((each.suite, name) for each in student.values() for name in each.marks)
    findings = []
    for suite, name in sorted(seen):
        keys = [key for key, each in student.items() if each.suite == suite and name in each.marks]
        steps = [float(student[k].marks[name]) - float(teacher[k].marks[name]) for k in keys]
        change = bootstrap_mean(steps, [prompt for prompt, _ in keys])
        bad = name in LOWER_IS_BETTER
        limit = limits.accuracy_drop if bad else -limits.accuracy_drop
        where = f" of the suite {suite!r}" if suite else ""
        findings.append(
            Finding(
                name="less_accurate",
                what=f"the change in the share of clips{where} "
                + (f"that are {name}" if bad else f"with the right {name}"),
                interval=change,
                limit=limit,
                failed=change.low > limit if bad else change.high < limit,
            )
        )
    return findings


def _look(student: Scores, teacher: Scores, limits: Limits) -> list[Finding]:
    """Compare what needs no detector, each as a ratio of the student's to the teacher's."""
    findings = []
    spreads = diversity(student), diversity(teacher)
    if spreads[0]:
        prompts = list(spreads[0])
        ratio = _ratio([spreads[0][p] for p in prompts], [spreads[1][p] for p in prompts], prompts)
        findings.append(
            _below(
                "collapsed", "diversity over seeds against the teacher's", ratio, limits.diversity
            )
        )
    keys = list(student)
    prompts = [prompt for prompt, _ in keys]
    motion = _ratio([student[k].motion for k in keys], [teacher[k].motion for k in keys], prompts)
    findings.append(_below("frozen", "motion against the teacher's", motion, limits.motion))
    colour = _ratio(
        [student[k].saturation for k in keys], [teacher[k].saturation for k in keys], prompts
    )
    findings += [
        Finding(
            name="over_saturated",
            what="saturation against the teacher's",
            interval=colour,
            limit=limits.saturation,
            failed=colour.low > limits.saturation,
        ),
        _below("faded", "saturation against the teacher's", colour, 1 / limits.saturation),
    ]
    return findings


def _novelty(student: Scores, teacher: Scores, hurried: Scores, limits: Limits) -> list[Finding]:
    keys = [key for key in student if key in hurried]
    hurried = {key: hurried[key] for key in keys}
    room = differences_at_equal_keys(hurried, teacher)
    if sum(room) / len(room) < limits.worth:
        return []
    moved = differences_at_equal_keys({key: student[key] for key in keys}, hurried)
    ratio = _ratio(moved, room, [prompt for prompt, _ in keys])
    what = "distance from the undistilled model at equal steps, against the teacher's from it,"
    return [_below("unchanged", what, ratio, limits.novelty)]


def _below(name: str, what: str, ratio: Interval, limit: float) -> Finding:
    return Finding(name=name, what=what, interval=ratio, limit=limit, failed=ratio.high < limit)


def _ratio(values: list[float], others: list[float], groups: list[int]) -> Interval:
    """Return the ratio of two means with a bootstrap interval over prompts.

    The interval is that of R + (v - R o) / mean(o), whose mean is the ratio R: both means are drawn
    together. Where the others are all 0 the ratio is 1 if the values are too, and else infinite.
    """
    whole = sum(others) / len(others)
    if whole == 0:
        even = float("inf") if any(values) else 1.0
        return Interval(even, even, even)
    ratio = sum(values) / len(values) / whole
    return bootstrap_mean(
        [ratio + (v - ratio * o) / whole for v, o in zip(values, others, strict=True)], groups
    )
