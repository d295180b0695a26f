"""What every training job does around its worker function.

On the driver: take the lease on the run, open the tracking store, start a run, train on Ray's
workers, show progress, store what rank 0 notes, bring home what it made. The workers share nothing
with the driver but Ray, and a store where one is named: folders travel to them and back.
"""

import contextlib
import dataclasses
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from jobs.progress import progress
from jobs.recipe import Recipe, needed
from video_platform.cluster import WorkerContext, run_workers, start
from video_platform.cluster_folder import Folder, folder_here
from video_platform.config import as_tree
from video_platform.datasets.record import Record
from video_platform.datasets.source import open_source, source_fingerprint
from video_platform.errors import PreemptedError, TrackingError
from video_platform.tracking import Run, Tracker, open_tracker
from video_platform.tracking.relay import deliver, relayed
from video_platform.training.lease import Lease

log = logging.getLogger(__name__)
FOLDERS = ("project", "model.out", "distill.out", "autoencoder.path")
"""Keys of a recipe that name folders of the driver."""
SHOWN = ("loss", "psnr", "samples_per_s")
"""Scalars that stand beside the progress bar."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Payload:
    """What a training worker is given."""

    recipe: Recipe
    """The resolved recipe."""
    run_id: str | None
    """The run that rank 0 logs to; None where nothing is trained."""
    parents: Mapping[str, str]
    """Run ids of what is trained on, by role."""
    extra: Mapping[str, Any]
    """What the job adds."""
    worker: "Worker"
    """What runs on every rank."""
    folders: Mapping[str, Folder]
    """Folders of the driver: those that the recipe names, by its keys, and those that `extra`
    names, by `extra.` and the key there."""


Worker = Callable[[Payload, WorkerContext], dict[str, Any]]
"""Runs on every rank; rank 0 returns `finished`, and `tags` for the run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training run: what it is called and what its workers do."""

    kind: Literal["autoencoder", "transformer", "student"]
    """What it makes."""
    title: str
    """What it is called."""
    steps: int
    """Optimiser steps."""
    worker: Worker
    """Runs on every rank."""
    parents: Mapping[str, str]
    """Run ids of what it is made from, by role."""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further values for the workers."""


@contextlib.contextmanager
def platform(recipe: Recipe) -> Iterator[Tracker]:
    """Have Ray and the tracking store of a recipe inside the block."""
    with start(recipe.cluster):
        yield open_tracker(recipe.tracking, recipe.folder)


def launch(recipe: Recipe, tracker: Tracker, job: TrainingJob) -> dict[str, Any]:
    """Train on the cluster and return what rank 0 returned.

    Raises:
        KeyboardInterrupt: Ctrl-C; the run has saved, and goes on when started again.
        PreemptedError: the same by SIGTERM.
        LeaseError: another driver works on this run.
        VdpError: whatever a worker met.
    """
    name = f"{recipe.name} {job.title}"
    lease = Lease(recipe.checkpoints_url(f"leases/{re.sub(r'[^0-9a-z-]+', '-', job.title)}"))
    params = as_tree(recipe)
    with (
        lease,
        tracker.start(job.kind, name=name, params=params, parents=dict(job.parents)) as run,
        progress(job.title, job.steps) as show,
    ):

        def on_progress(told: Mapping[str, Any]) -> None:
            if "note" not in told:
                show(told["step"], told["values"])
                return
            try:
                deliver(told["note"], run)
            except TrackingError as error:  # a picture less is no reason to stop training
                log.warning("%s", error)

        result = run_workers(
            _on_rank,
            _payload(recipe, job, run.id),
            config=recipe.cluster,
            on_progress=on_progress,
            watch=lease.check,
        )
        _bring_home(result)
        for key, value in result.get("tags", {}).items():
            run.tag(key, value)
        if not result["finished"]:
            _say_stopped(result["stopped_by"], job)
        return result


def _payload(recipe: Recipe, job: TrainingJob, run_id: str) -> Payload:
    """Put together what the workers are given: paths do not depend on where they are."""
    for key in FOLDERS:
        path = _value(recipe, key)
        if path is not None and (key != "autoencoder.path" or Path(path).exists()):  # or of a hub
            recipe = _replaced(recipe, key, str(Path(path).absolute()))
    folders = {"autoencoder.path": str(recipe.autoencoder_folder)}
    if recipe.pretrain is not None and recipe.pretrain.start_from is not None:
        folders["pretrain.start_from"] = recipe.pretrain.start_from
    folders |= {
        f"extra.{key}": str(value)
        for key, value in job.extra.items()
        if isinstance(value, Path) and value.is_dir()
    }
    return Payload(
        recipe=recipe,
        run_id=run_id,
        parents=job.parents,
        extra=job.extra,
        worker=job.worker,
        folders={key: folder_here(path) for key, path in folders.items()},
    )


def _on_rank(payload: Payload, context: WorkerContext) -> dict[str, Any]:
    """Call a job's function on one rank, with the driver's folders in reach."""
    with contextlib.ExitStack() as stack:
        recipe, extra = payload.recipe, dict(payload.extra)
        for key, folder in payload.folders.items():
            path = stack.enter_context(folder.opened())
            if key.startswith("extra."):
                extra[key.removeprefix("extra.")] = Path(path or "")
            else:
                recipe = _replaced(recipe, key, path)
        payload = dataclasses.replace(payload, recipe=recipe, extra=extra)
        result = payload.worker(payload, context)
        made = folder_here(result.get("tags", {}).get("vdp.folder"))
        return {**result, "made": made, "stopped_by": context.stop_reason()}


def _bring_home(result: Mapping[str, Any]) -> None:
    """Copy the folder that rank 0 made, if it is on another machine, to the same path here."""
    made: Folder = result["made"]
    if made.path is not None:
        made.copy_to(Path(made.path))


def _say_stopped(reason: str | None, job: TrainingJob) -> None:
    if reason == "SIGINT":
        raise KeyboardInterrupt
    raise PreemptedError(
        f"{job.title} was told to end by SIGTERM and has saved; the same command goes on"
    )


def _value(recipe: Any, key: str) -> Any:
    """Return the value of a key such as `model.out`; None where a section is missing."""
    for name in key.split("."):
        recipe = getattr(recipe, name, None)
    return recipe


def _replaced(recipe: Any, key: str, value: Any) -> Any:
    """Return a recipe with another value of a key."""
    name, _, rest = key.partition(".")
    new = _replaced(getattr(recipe, name), rest, value) if rest else value
    return dataclasses.replace(recipe, **{name: new})


@contextlib.contextmanager
def scribe(payload: Payload, context: WorkerContext) -> Iterator[Run | None]:
    """Open the run on rank 0, whose notes the driver stores; other ranks get None."""
    if context.rank != 0 or payload.run_id is None:
        yield None
        return
    with relayed(payload.run_id, lambda note: context.report({"note": note})) as run:
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
