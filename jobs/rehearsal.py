"""Make a few clips of a source and forecast the rest: `vdp precompute RECIPE --plan`.

The clips are drawn by the names of their files, every layer of them is made by the recipe's actors,
as many as the cluster has room for, and what was made is thrown away.
"""

import contextlib
import dataclasses
import hashlib
import math
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence

from jobs.cache_layers import fill, layers_of
from jobs.clip_selection import choose_clips, sizes_of
from jobs.forecast import SCAN, Forecast, Pace, describe, forecast_key
from jobs.launch import platform, source_of
from jobs.precompute_progress import Memory, shown
from jobs.recipe import Recipe, needed
from video_platform.datasets.record import Record
from video_platform.latents.config import CacheConfig
from video_platform.latents.manifest import captions
from video_platform.latents.work import OnProgress, Progress
from video_platform.storage import Store, open_store

IN_A_ROW = 5
"""Most clips that are drawn from one file; they are neighbours, as clips are worked on."""


def run(recipe: Recipe) -> Forecast:
    """Forecast what the recipe's `precompute` takes, and print it."""
    cache = needed(recipe.cache, "cache", "precompute")
    files = source_of(recipe, "precompute")
    with platform(recipe), shown() as on_progress:
        found = rehearse(recipe, files, on_progress=on_progress)
    print(describe(found, cache, recipe.forecast))
    return found


def rehearse(recipe: Recipe, files: Sequence[Record], *, on_progress: OnProgress) -> Forecast:
    """Make a few clips of a source and forecast the rest, on the Ray that is running.

    Args:
        recipe: with `cache` and `pixels`.
        files: the captioned videos.
        on_progress: is told how far the few are.

    Raises:
        SourceError: there is no clip.
    """
    cache = needed(recipe.cache, "cache", "precompute")
    root = open_store(cache.url)
    layers = layers_of(recipe, sizes_of(recipe, files))
    crew = _crew(cache)
    share_alone = dataclasses.replace(recipe.fidelity, least=0)  # of few clips it is too many
    small = dataclasses.replace(recipe, cache=crew, fidelity=share_alone)
    chosen, memory = draw(files, recipe.forecast.clips), Memory(on_progress)
    with _scratch(root) as scratch:
        records = choose_clips(small, scratch, chosen, on_progress=memory).records
        few = draw(records, recipe.forecast.clips)
        fill(scratch, layers, few, small, on_progress=memory, on_finding=lambda clip, found: None)
        paces = {
            name: _pace(now, crew, memory.seconds(name), _size_bytes(scratch, name))
            for name, now in memory.last.items()
        }
    latent = layers.latent.spec.layer
    clips = round(len(files) * len(records) / len(chosen))
    found = Forecast(
        about=forecast_key(files, layers, recipe.clips),
        sampled=len(few),
        rejected=sum(memory.last[latent].rejects.values()),
        clips=clips,
        samples={name: _samples(name, files, clips) for name in paces},
        paces=paces,
        decoders=cache.decoders,
        encoders=cache.encoders,
    )
    found.save(root)
    return found


def draw(records: Sequence[Record], count: int) -> list[Record]:
    """Draw clips by the hash of their file's name."""
    files: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.file or record.id, record.start_s)):
        files[record.file or record.id].append(record)
    order = sorted(files, key=lambda name: hashlib.sha256(f"forecast\0{name}".encode()).digest())
    most = max(IN_A_ROW, math.ceil(count / len(order)))
    return [record for name in order for record in files[name][:most]][:count]


def _crew(cache: CacheConfig) -> CacheConfig:
    """Return the recipe's actors as far as this cluster has room for them, in proportion."""
    import ray

    there = ray.cluster_resources()
    cpus = cache.decoders * cache.cpus_per_decoder + cache.encoders * cache.cpus_per_encoder
    gpus = cache.encoders * cache.gpus_per_encoder
    share = min(
        1.0,
        there.get("CPU", 0.0) / cpus if cpus else 1.0,
        there.get("GPU", 0.0) / gpus if gpus else 1.0,
    )
    decoders, encoders = (max(1, int(count * share)) for count in (cache.decoders, cache.encoders))
    return dataclasses.replace(
        cache, decoders=decoders, max_decoders=decoders, encoders=encoders, max_encoders=encoders
    )


def _pace(now: Progress, crew: CacheConfig, seconds: float, size_bytes: int) -> Pace:
    """Divide what a layer of a few clips took."""
    made = max(now.load.settled or now.samples_done, 1)
    decode_s = seconds * crew.decoders if now.layer == SCAN else now.load.decode_s
    pace = Pace(
        start_s=0.0,
        decode_s=decode_s / made,
        encode_s=now.load.encode_s / made,
        size_bytes=size_bytes / made,
    )
    at_work_s = pace.seconds(made, decoders=crew.decoders, encoders=crew.encoders)
    return dataclasses.replace(pace, start_s=max(seconds - at_work_s, 0.0))


def _samples(layer: str, files: Sequence[Record], clips: int) -> int:
    """Count the samples that a layer will have of a source."""
    if layer.startswith("text/"):
        return len(captions(files))
    return len(files) if layer == SCAN else clips


def _size_bytes(root: Store, layer: str) -> int:
    """Return how much a layer takes, its commits among it."""
    return sum(stat.size_bytes for stat in root.scan(layer).values())


@contextlib.contextmanager
def _scratch(root: Store) -> Iterator[Store]:
    """Have a place beside the cache, within every worker's reach, that is gone afterwards."""
    folder = f"scratch/{uuid.uuid4().hex[:16]}"
    try:
        yield root.child(folder)
    finally:
        for key in root.list(folder):
            root.delete(key)
