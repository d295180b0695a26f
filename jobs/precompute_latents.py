"""Decode videos and fill the latent cache: `vdp precompute RECIPE`.

    captioned videos -> decoded clips -> latents, tokens, maps }
                     -> captions      -> embeddings            }  -> snapshot

Run again it finishes what is missing and ends with the same snapshot; with nothing missing it
starts no actor at all. `--plan` makes a few clips only and forecasts the rest (`rehearsal.py`).
"""

import sys
import time
from collections.abc import Callable, Sequence

from jobs.cache_layers import fill, layers_of
from jobs.clip_selection import choose_clips, sizes_of
from jobs.fidelity import FidelityGate
from jobs.forecast import forecast_key, load_forecast
from jobs.launch import platform, source_of, source_run
from jobs.precompute_progress import Memory, Watch, shown
from jobs.precompute_report import PrecomputeReport, describe, make_report, track
from jobs.recipe import Recipe, needed
from video_platform.clips.selection import Selection
from video_platform.config import as_tree
from video_platform.datasets.record import Record
from video_platform.latents.manifest import save_manifest
from video_platform.latents.snapshots import take_snapshot
from video_platform.latents.work import OnProgress
from video_platform.storage import open_store

OnSelection = Callable[[Selection], None]
"""Is given the clips of a source and what was left out, before any is decoded."""

OnFidelity = Callable[[FidelityGate], None]
"""Is given what was measured of the latents, also when that is what ends the run."""


def precompute(
    recipe: Recipe,
    files: Sequence[Record],
    *,
    on_progress: OnProgress,
    on_selection: OnSelection = lambda selection: None,
    on_fidelity: OnFidelity = lambda gate: None,
) -> PrecomputeReport:
    """Fill the recipe's cache with the clips of a source, on the Ray that is running.

    Args:
        recipe: with `cache` and `pixels`; what it names is within every worker's reach.
        files: the captioned videos.
        on_progress: is told after each unit.
        on_selection: is given the clips that are to be made.
        on_fidelity: is given what was measured, before this returns or raises.

    Raises:
        SourceError: there is no clip.
        StaleCacheError: the autoencoder no longer gives the latents that the cache recorded.
        CacheError: some units could not be done now, and the others are committed; or the latents
            are not good enough.
    """
    started_s, memory = time.monotonic(), Memory(on_progress)
    cache = needed(recipe.cache, "cache", "precompute")
    root = open_store(cache.url)
    root.probe()
    layers = layers_of(recipe, sizes_of(recipe, files))
    selection = choose_clips(recipe, root, files, on_progress=memory)
    on_selection(selection)
    records = selection.records
    plan = layers.plan(save_manifest(root, records), cache)
    plan.save(root)
    gate = FidelityGate(root, layers.latent.spec.folder, recipe.fidelity)
    try:
        with gate:
            fill(root, layers, records, recipe, on_progress=memory, on_finding=gate.add)
            gate.finish()
    finally:
        on_fidelity(gate)
    header = take_snapshot(root, plan)
    return make_report(
        layers,
        plan,
        header=header,
        done=memory.last,
        gate=gate,
        left_out=selection.rejects,
        forecast=load_forecast(root, forecast_key(files, layers, recipe.clips)),
        seconds=time.monotonic() - started_s,
    )


def run(recipe: Recipe) -> PrecomputeReport:
    """Fill the recipe's cache, as a run of its own in the tracking store."""
    cache = needed(recipe.cache, "cache", "precompute")
    needed(recipe.pixels, "pixels", "precompute")
    records = source_of(recipe, "precompute")
    with platform(recipe) as tracker:
        parents = {"source": source_run(tracker, recipe, records)}
        name = f"{recipe.name} precompute"
        with (
            tracker.start("cache", name=name, params=as_tree(recipe), parents=parents) as tracked,
            shown() as show,
        ):
            watch = Watch(tracked, show)
            report = precompute(
                recipe,
                records,
                on_progress=watch.progress,
                on_selection=watch.selection,
                on_fidelity=watch.fidelity,
            )
            track(tracker, tracked, report)
    print(describe(report, cache.url))
    return report


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["precompute", *sys.argv[1:]]))
