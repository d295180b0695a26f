"""What a plan takes and leaves out, bucket by bucket and reason by reason.

totals = Totals(config.sizes(policy))
for planned in plan_clips(...):
    totals.add(planned)
totals.rows()       # a row a bucket, also an empty one, then a row a reason
"""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping

from video_platform.clips.filters import MEANINGS
from video_platform.clips.planning import REASONS, Planned
from video_platform.video.limits import REASONS as MEDIA_REASONS
from video_platform.video.policy import ClipSize


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """Pieces that went to one bucket, or were left out for one reason."""

    outcome: str
    """`taken` or `rejected`."""
    name: str
    """The bucket, frames x height x width, or the reason."""
    clips: int
    """How many."""
    files: int
    """Files that they are from."""
    seconds: float
    """How long they last; what cannot be read has no length."""
    seconds_lost: float
    """How much of that lies behind the end of their clips."""
    seconds_repeated: float
    """How long the last frames of short videos are repeated."""
    cropped: float
    """Mean share of the picture that is cut off; of the clip that is black with `fit: pad`."""
    most_cropped: float
    """The largest such share."""
    meaning: str
    """The reason in words."""


class _Sum:
    """Adds up the pieces of one row; those of a file come one after the other."""

    def __init__(self) -> None:
        self.clips = self.files = 0
        self.seconds = self.lost = self.repeated = self.cropped = self.most = 0.0
        self._file = ""

    def add(self, planned: Planned) -> None:
        self.clips += 1
        self.files += planned.file.id != self._file
        self._file = planned.file.id
        self.seconds += planned.seconds
        if not planned.reason:
            self.lost += planned.seconds - planned.shown_s
            self.repeated += planned.repeated_s
            self.cropped += planned.cropped
            self.most = max(self.most, planned.cropped)

    def row(self, outcome: str, name: str, meaning: str = "") -> Row:
        return Row(
            outcome=outcome,
            name=name,
            clips=self.clips,
            files=self.files,
            seconds=round(self.seconds, 3),
            seconds_lost=round(self.lost, 3),
            seconds_repeated=round(self.repeated, 3),
            cropped=round(self.cropped / max(self.clips, 1), 4),
            most_cropped=round(self.most, 4),
            meaning=meaning,
        )


class Totals:
    """Counts what became of the pieces of a source."""

    def __init__(self, sizes: Iterable[ClipSize]) -> None:
        self._taken = {size: _Sum() for size in sizes}
        self._rejected: dict[str, _Sum] = {}

    def add(self, planned: Planned) -> None:
        """Count one more piece; those of a file come one after the other."""
        if planned.reason:
            self._rejected.setdefault(planned.reason, _Sum()).add(planned)
        else:
            assert planned.size is not None, "what is taken has a bucket"  # noqa: S101
            self._taken[planned.size].add(planned)

    def rows(self) -> list[Row]:
        """Return the table: every bucket, then every reason that was given."""
        taken = [part.row("taken", str(size)) for size, part in sorted(self._taken.items())]
        return taken + [
            part.row("rejected", reason, explain(reason))
            for reason, part in sorted(self._rejected.items())
        ]

    @property
    def rejects(self) -> Mapping[str, int]:
        """How many pieces were left out, by reason."""
        return {reason: part.clips for reason, part in sorted(self._rejected.items())}


def to_csv(rows: Iterable[Row]) -> str:
    """Write a table as CSV."""
    text = io.StringIO(newline="")
    names = [field.name for field in dataclasses.fields(Row)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(dataclasses.asdict, rows))
    return text.getvalue()


def explain(reason: str) -> str:
    """Say what a reason means."""
    return {**MEDIA_REASONS, **MEANINGS, **REASONS}.get(reason, "")
