"""`vdp inspect`: what a source really holds, video by video.

Every video is decoded whole in an isolated process. A readable one is listed with its size as
displayed; any other with the reason for which it is rejected. Rejecting is a finding, not a
failure: the exit code stays 0.

With `--recipe` it shows what `precompute` would make of the source: every piece of every video, the
bucket that it goes to or why it is left out. Nothing is encoded or written.
"""

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Column, Table
from rich.text import Text

from jobs.clip_selection import show
from jobs.recipe import Recipe, needed
from video_platform.clips.planning import Planned, plan_clips
from video_platform.clips.report import Totals
from video_platform.clips.scanning import Scanner
from video_platform.clips.scans import Finding as Found
from video_platform.clips.scans import Scanning, Shelf
from video_platform.datasets.config import SourceConfig
from video_platform.datasets.record import Record
from video_platform.datasets.source import open_source, read_media
from video_platform.errors import MediaError
from video_platform.storage import open_store
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import REASONS, MediaLimits, reject

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What is known of one video; as JSON, one line of `vdp inspect --json`."""

    path: str
    """Its path within the source."""

    status: Literal["ok", "rejected"]
    """Whether it can be decoded from end to end."""

    reason: str | None = None
    """Why it is rejected: one of `video_platform.video.limits.REASONS`."""

    frames: int | None = None
    """Frames counted by decoding."""

    width: int | None = None
    """Width in pixels as displayed."""

    height: int | None = None
    """Height in pixels as displayed."""

    fps: float | None = None
    """Mean frame rate; None for a single frame too."""

    duration_s: float | None = None
    """Length in seconds."""

    codec: str | None = None
    """Canonical codec name."""

    rotation: int | None = None
    """Degrees clockwise from the stored to the displayed picture."""


def run(source: SourceConfig, *, limits: MediaLimits | None = None, as_json: bool = False) -> None:
    """Print what a source holds: a table, or one JSON object a line as they are found."""
    limits = limits or MediaLimits()
    records = open_source(source)
    if as_json:
        for finding in inspect_records(records, limits):
            print(json.dumps(dataclasses.asdict(finding)), flush=True)
        return
    findings = list(_watched(inspect_records(records, limits), len(records)))
    console = Console()
    console.print(_table(findings))
    reasons = Counter(found.reason for found in findings if found.reason is not None)
    console.print(f"{len(findings) - reasons.total()} ok, {reasons.total()} rejected")
    for reason, count in reasons.most_common():
        console.print(f"{count:7} {reason}: {REASONS[reason]}")


def run_plan(recipe: Recipe, *, as_json: bool = False) -> None:
    """Print what `precompute` would make of the recipe's source, piece by piece.

    What scans found before is taken from the recipe's cache; it is not written to.

    Raises:
        ConfigError: the recipe lacks `source`, `pixels` or `clips`.
    """
    records = open_source(needed(recipe.source, "source", "inspect"))
    clips, policy = (needed(getattr(recipe, name), name, "inspect") for name in ("clips", "pixels"))
    totals = Totals(clips.sizes(policy))
    found = scan_here(recipe, records)
    planned = plan_clips(found if as_json else _watched(found, len(records)), clips, policy)
    table = Table(Column("clip", overflow="fold"), *_PLAN_COLUMNS, box=None, pad_edge=False)
    for item in planned:
        totals.add(item)
        if as_json:
            print(json.dumps(item.to_json()), flush=True)
        else:
            table.add_row(*_plan_row(item))
    if not as_json:
        Console().print(table)
        show(totals.rows())


def scan_here(recipe: Recipe, records: Sequence[Record]) -> Iterator[tuple[Record, Found]]:
    """Yield videos with what the recipe's cache knows of them, or what a look at them finds.

    Raises:
        SourceError: a video is gone or has changed since it was listed.
    """
    scanning = Scanning.of(needed(recipe.clips, "clips", "inspect"), recipe.limits)
    shelf = None
    if recipe.cache is not None:
        shelf = Shelf(open_store(recipe.cache.url), scanning)
        shelf.refresh()
    with contextlib.closing(Scanner(scanning)) as scanner:
        for record in records:
            if shelf is not None and not shelf.missing([record]):
                yield from shelf.walk([record])
            else:
                yield record, scanner.look(record)


def _watched(items: Iterable[T], total: int) -> Iterable[T]:
    """Show how far an inspection is."""
    console = Console(stderr=True)
    return track(items, description="inspecting", total=total, console=console, transient=True)


_PLAN_COLUMNS = [
    Column(name, no_wrap=True) for name in ("seconds", "bucket", "cropped", "left out")
]


def _plan_row(item: Planned) -> tuple[Text | str, ...]:
    taken = not item.reason
    return (
        Text(item.id),
        f"{item.seconds:.3f}",
        str(item.size) if taken else "",
        f"{item.cropped:.1%}" if taken else "",
        Text(item.reason, style="red"),
    )


def inspect_records(records: Iterable[Record], limits: MediaLimits) -> Iterator[Finding]:
    """Decode each video of a source, one after the other, and say what it holds."""
    with IsolatedDecoder(limits) as decoder:
        for record in records:
            try:
                yield _inspect(record, decoder)
            except MediaError as error:
                yield Finding(path=record.id, status="rejected", reason=error.reason)


def _inspect(record: Record, decoder: IsolatedDecoder) -> Finding:
    """Decode one video; too large a one is not even fetched."""
    if record.size_bytes > decoder.limits.max_bytes:
        raise reject("too_large", f"{record.size_bytes} bytes, max_bytes is less")
    info = decoder.probe(read_media(record))
    return Finding(
        path=record.id,
        status="ok",
        frames=info.frames,
        width=info.width,
        height=info.height,
        fps=info.fps,
        duration_s=info.duration_s,
        codec=info.codec,
        rotation=info.rotation,
    )


def _table(findings: Iterable[Finding]) -> Table:
    """Lay findings out for a person."""
    facts = ("frames", "size", "fps", "seconds", "codec", "note")
    columns = [Column(name, no_wrap=True) for name in facts]
    table = Table(Column("video", overflow="fold"), *columns, box=None, pad_edge=False)
    for found in findings:
        if found.status == "rejected":
            table.add_row(Text(found.path), *[""] * 5, Text(found.reason or "", style="red"))
            continue
        table.add_row(
            Text(found.path),
            str(found.frames),
            f"{found.width}x{found.height}",
            "" if found.fps is None else f"{found.fps:.3f}",
            f"{found.duration_s:.2f}",
            found.codec,
            f"turned {found.rotation}°" if found.rotation else "",
        )
    return table
