"""What an evaluation counts: models, their clips, and the numbers of a table. Plain data."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from video_models.metrics.intervals import Interval

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

    @property
    def slug(self) -> str:
        """Its name as files have it."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower())


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The training clip that a generated clip is most like."""

    index: int
    """Which one."""
    distance: float
    """Root mean square difference of the thumbnails, in [0, 1]."""
    unseen: float
    """The same for the most alike of as many clips that training never showed."""


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
    measures: Mapping[str, float] = field(default_factory=dict)
    """What a detector measures that is no yes or no."""
    answers: Mapping[str, str] = field(default_factory=dict)
    """What it shows where its prompt leaves something open, by attribute."""
    controls: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Marks and measures without what was asked, by null control."""
    nearest: Nearest | None = None
    """The training clip that it is most like, where that was looked for."""


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


def by_table(
    clips: Sequence[JudgedClip],
) -> dict[tuple[str, str], list[JudgedClip]]:
    """Sort clips by contender and split."""
    tables: dict[tuple[str, str], list[JudgedClip]] = {}
    for clip in clips:
        tables.setdefault((clip.contender, clip.split), []).append(clip)
    return tables


def prompt_groups(clips: Sequence[JudgedClip]) -> list[int]:
    """Number the prompts of clips: a prompt that was asked twice is one group."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(clip.prompt, len(numbers)) for clip in clips]


def find(
    measures: Sequence[Measure], *, contender: str, name: str, split: str, against: str = ""
) -> Measure | None:
    """Return the measure of this description, if there is one."""
    key = (contender, name, split, against)
    return next((m for m in measures if (m.contender, m.name, m.split, m.against) == key), None)
