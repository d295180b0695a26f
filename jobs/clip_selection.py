"""Choose the clips of a recipe's source, show what became of every video, and track it.

Without a `clips` section every video is one clip, from its beginning, at the size of `pixels`, and
none is looked through for it.
"""

import dataclasses
import json
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from jobs.recipe import Recipe, needed
from video_platform.clips.report import Row, to_csv
from video_platform.clips.scanning import scan_source
from video_platform.clips.scans import Scanning
from video_platform.clips.selection import Selection, select_clips
from video_platform.datasets.record import Record
from video_platform.errors import SourceError
from video_platform.latents.work import OnProgress, Progress
from video_platform.storage import Store
from video_platform.tracking import Run
from video_platform.video.policy import ClipSize


def sizes_of(recipe: Recipe, files: Sequence[Record]) -> list[ClipSize]:
    """Return the sizes that clips of a source may have; no video is opened for it."""
    policy = needed(recipe.pixels, "pixels", "precompute")
    if recipe.clips is not None:
        return recipe.clips.sizes(policy)
    return sorted({record.size or policy.size for record in files})


def choose_clips(
    recipe: Recipe, root: Store, files: Sequence[Record], *, on_progress: OnProgress
) -> Selection:
    """Look through the videos of a source and plan its clips, on the Ray that is running.

    Args:
        recipe: with `cache` and `pixels`; without `clips` no video is opened.
        root: the cache, which keeps what scans find.
        files: the source.
        on_progress: is told how many are scanned.

    Raises:
        SourceError: there is no clip.
        CacheError: some videos could not be fetched now.
    """
    policy = needed(recipe.pixels, "pixels", "precompute")
    if not files:
        raise SourceError("the source holds no videos; `vdp inspect` says what it holds")
    if recipe.clips is None:
        sized = [dataclasses.replace(item, size=item.size or policy.size) for item in files]
        return Selection(records=sized, rows=(), rejects={}, table="")
    shelf = scan_source(
        root,
        files,
        Scanning.of(recipe.clips, recipe.limits),
        pool=needed(recipe.cache, "cache", "precompute"),
        on_progress=_Told(on_progress),
    )
    selection = select_clips(root, shelf.walk(files), recipe.clips, policy)
    if not selection.records:
        reasons = ", ".join(f"{count} {reason}" for reason, count in selection.rejects.items())
        raise SourceError(
            f"none of the {len(files)} videos gives a clip: {reasons}; change clips in the recipe, "
            "`vdp inspect URL --recipe RECIPE` shows every piece"
        )
    return selection


def show(rows: Sequence[Row]) -> None:
    """Print what went to which bucket and what was left out."""
    console = Console()
    taken = [row for row in rows if row.outcome == "taken"]
    figures = ("clips", "files", "seconds", "lost", "repeated", "cropped", "at most")
    table = _table("bucket", *figures)
    for row in taken:
        table.add_row(
            row.name,
            *(str(row.clips), str(row.files)),
            *(f"{value:.1f}" for value in (row.seconds, row.seconds_lost, row.seconds_repeated)),
            *(f"{share:.1%}" for share in (row.cropped, row.most_cropped)),
        )
    console.print(table)
    table = _table("left out", "pieces", "files", "seconds")
    table.add_column("", style="dim")
    for row in rows[len(taken) :]:
        table.add_row(
            row.name, str(row.clips), str(row.files), f"{row.seconds:.1f}", Text(row.meaning)
        )
    console.print(table)


def _table(title: str, *figures: str) -> Table:
    columns = [Column(name, justify="right", no_wrap=True) for name in figures]
    return Table(
        Column(title, no_wrap=True), *columns, box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )


def track(run: Run, selection: Selection) -> None:
    """Keep the table with a run."""
    tree = {"table": selection.table, "rows": [dataclasses.asdict(row) for row in selection.rows]}
    run.text(to_csv(selection.rows), "clips.csv")
    run.text(json.dumps(tree, indent=2), "clips.json")


class _Told:
    """Passes on how far a scan is as the progress of a layer."""

    def __init__(self, tell: OnProgress) -> None:
        self._tell = tell
        self._started_s = time.monotonic()
        self._before: int | None = None

    def __call__(self, done: int, total: int) -> None:
        self._before = done if self._before is None else self._before
        now = done - self._before
        pace = now / max(time.monotonic() - self._started_s, 1e-9)
        self._tell(
            Progress(
                layer="scan",
                units_done=done,
                units=total,
                samples_done=done,
                samples=total,
                encoded=now,
                rejects={},
                samples_per_s=pace,
                eta_s=(total - done) / pace if pace else None,
            )
        )
