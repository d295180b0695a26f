"""What every training job does around its worker function.

On the driver: open the tracking store, start a run, train on Ray's workers, show progress, and note
what came of it. On rank 0: log into that run.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from jobs.progress import progress
from jobs.recipe import Recipe, needed
from video_platform.cluster import WorkerContext, run_workers, start
from video_platform.config import as_tree
from video_platform.datasets.record import Record
from video_platform.datasets.source import open_source, source_fingerprint
from video_platform.tracking import Run, Tracker, TrackingConfig, open_tracker

SHOWN = ("loss", "psnr", "samples_per_s")
"""Scalars that stand beside the progress bar."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Payload:
    """What a training worker is given."""

    recipe: Recipe
    """The resolved recipe."""
    tracking: TrackingConfig
    """The store of the run."""
    run_id: str
    """The run that rank 0 logs to."""
    parents: Mapping[str, str]
    """Run ids of what is trained on, by role."""
    extra: Mapping[str, Any]
    """What the job adds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training run: what it is called and what its workers do."""

    kind: Literal["autoencoder", "transformer", "student"]
    """What it makes."""
    title: str
    """What it is called."""
    steps: int
    """Optimiser steps."""
    worker: Callable[[Payload, WorkerContext], dict[str, Any]]
    """Runs on every rank; rank 0 returns `finished`, and `tags` for the run."""
    parents: Mapping[str, str]
    """Run ids of what it is made from, by role."""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further values for the workers."""


@contextlib.contextmanager
def platform(recipe: Recipe) -> Iterator[Tracker]:
    """Have Ray and the tracking store of a recipe inside the block."""
    with start(recipe.cluster):
        tracker = open_tracker(recipe.tracking, recipe.folder)
        if recipe.cluster.address is not None:
            tracker.check_shared()
        yield tracker


def launch(recipe: Recipe, tracker: Tracker, job: TrainingJob) -> dict[str, Any]:
    """Train on the cluster and return what rank 0 returned.

    Raises:
        KeyboardInterrupt: the run was asked to stop; it has saved, and goes on when started again.
        VdpError: whatever a worker met.
    """
    name = f"{recipe.name} {job.title}"
    with tracker.start(
        job.kind, name=name, params=as_tree(recipe), parents=dict(job.parents)
    ) as run:
        payload = Payload(
            recipe=recipe,
            tracking=dataclasses.replace(recipe.tracking, uri=tracker.uri),
            run_id=run.id,
            parents=job.parents,
            extra=job.extra,
        )
        with progress(job.title, job.steps) as show:
            result = run_workers(
                job.worker,
                payload,
                config=recipe.cluster,
                on_progress=lambda told: show(told["step"], told["values"]),
            )
        for key, value in result.get("tags", {}).items():
            run.tag(key, value)
        if not result["finished"]:
            raise KeyboardInterrupt
        return result


@contextlib.contextmanager
def scribe(payload: Payload, context: WorkerContext) -> Iterator[Run | None]:
    """Open the run on rank 0; other ranks get None."""
    if context.rank != 0:
        yield None
        return
    tracker = open_tracker(payload.tracking, payload.recipe.folder)
    with tracker.attach(payload.run_id) as run:
        yield run


def reporter(run: Run | None, context: WorkerContext) -> Callable[[int, Mapping[str, float]], None]:
    """Return what the training loop reports to: the run, and the driver's progress."""

    def report(step: int, scalars: Mapping[str, float]) -> None:
        if run is not None:
            run.metrics(scalars, step=step)
            values = {name: scalars[name] for name in SHOWN if name in scalars}
            context.report({"step": step, "values": values})

    return report


def source_of(recipe: Recipe, job: str) -> list[Record]:
    """List the clips of the recipe's source."""
    return open_source(needed(recipe.source, "source", job))


def source_run(tracker: Tracker, recipe: Recipe, records: list[Record]) -> str:
    """Return the run that stands for this content of the source, starting it if it is new."""
    fingerprint = source_fingerprint(records)
    known = tracker.find(fingerprint)
    if known is not None:
        return known
    url = needed(recipe.source, "source", "tracking").url
    tags = {"vdp.fingerprint": fingerprint, "vdp.url": url, "vdp.clips": str(len(records))}
    with tracker.start(
        "source", name=f"{recipe.name} source", params={"url": url}, tags=tags
    ) as run:
        return run.id


def made_by(tracker: Tracker, **fingerprints: str) -> dict[str, str]:
    """Return the runs that made things of these fingerprints, by role, as far as known."""
    found = {role: tracker.find(print_) for role, print_ in fingerprints.items()}
    return {role: run_id for role, run_id in found.items() if run_id is not None}
