"""Fill the layers of a cache on Ray: whatever is committed already is left alone.

    fill_latents(root, spec, records, settings=settings, open_encode=..., on_progress=print)

Decoders and encoders are pools of their own, scaled apart; with nothing to do Ray is not touched.
What an encoder opens and calls for a layer, latents or any other, is the `Make` of `making.py`,
which jobs/ hands in; its findings come back as `OnFinding`. What happens when somebody dies is told
in `driver.py`.
"""

import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from video_platform.datasets.record import Record
from video_platform.errors import CacheError
from video_platform.latents.calls import Calls, reason
from video_platform.latents.canary import Canary, Encode, check_canary
from video_platform.latents.config import CacheConfig
from video_platform.latents.driver import Driver, Listeners
from video_platform.latents.layer import Layer, find_layer, open_layer
from video_platform.latents.making import Make, OnFinding, OpenMake
from video_platform.latents.manifest import captions, latent_units, text_units
from video_platform.latents.pool import Pool, Seat, run_units, start_actor
from video_platform.latents.spec import LATENT, LayerSpec
from video_platform.latents.stages import Settings, Stages
from video_platform.latents.units import Unit
from video_platform.latents.work import Load, OnProgress, Outcome, Progress, Work, missing_work
from video_platform.latents.workers import CaptionEncoder, EncodeText, make_latents
from video_platform.storage import Store

__all__ = ["Settings", "fill_clips", "fill_latents", "fill_text"]


def fill_latents(
    root: Store,
    spec: LayerSpec,
    records: Sequence[Record],
    *,
    settings: Settings,
    open_encode: Callable[[], Encode],
    on_progress: OnProgress,
) -> Progress:
    """Fill the latent layer with what an autoencoder's `Encode` makes; see `fill_clips`."""
    return fill_clips(
        root,
        spec,
        records,
        settings=settings,
        open_make=functools.partial(_open_latents, open_encode),
        on_progress=on_progress,
    )


def fill_clips(
    root: Store,
    spec: LayerSpec,
    records: Sequence[Record],
    *,
    settings: Settings,
    open_make: OpenMake,
    on_progress: OnProgress,
    on_finding: OnFinding = lambda name, finding: None,
) -> Progress:
    """Commit every unit of clips that is not committed yet.

    Args:
        root: the cache.
        spec: the layer; the latent one without its canary.
        records: the source.
        settings: how clips are decoded and encoded.
        open_make: opens what makes the layer's tensors, inside an actor.
        on_progress: is told at the start, after each unit, and every second.
        on_finding: is told what was found out about clips.

    Raises:
        StaleCacheError: the canary clip does not encode to what the layer recorded.
        CacheError: some units could not be done now; the others are.
        ClusterError: the cluster has no room for the actors.
    """
    config = settings.cache
    units = latent_units(records, config.unit_size)
    door = _Door(root, spec, config)
    count = _Count(spec.layer, units, on_progress)
    work = _start(count, door.layer, units)
    if not work:
        return count.progress()
    stages = Stages(settings, open_make, canary=door.has_canary, admit=door.admit)
    driver = Driver(
        work,
        {record.id: _sized(record, settings) for record in records},
        stages,
        layer=door.open,
        config=config,
        tell=Listeners(on_unit=count.add, on_load=count.look, on_finding=on_finding),
    )
    driver.run()
    _raise_failures(driver.failures, len(work))
    return count.progress()


def fill_text(
    root: Store,
    spec: LayerSpec,
    records: Sequence[Record],
    *,
    config: CacheConfig,
    open_encode: Callable[[], EncodeText],
    on_progress: OnProgress,
) -> Progress:
    """Commit every unit of captions that is not committed yet, the empty caption among them.

    Args:
        root: the cache.
        spec: the text layer.
        records: the source.
        config: pools, batches and precisions.
        open_encode: opens the text encoder, inside an actor.
        on_progress: is told at the start and after each unit.

    Raises:
        CacheError: some units could not be done now; the others are.
        ClusterError: the cluster has no room for the actors.
    """
    units = text_units(records, config.text_unit_size)
    layer = open_layer(root, spec)
    count = _Count(spec.layer, units, on_progress)
    work = _start(count, layer, units)
    if not work:
        return count.progress()
    texts = captions(records)
    seat = Seat(cpus=config.cpus_per_encoder, gpus=config.gpus_per_encoder)
    pool = Pool(
        "encoders",
        seat,
        functools.partial(start_actor, CaptionEncoder, seat, open_encode, config),
        admit=lambda _: None,
        calls=Calls(),
        timeout_s=config.start_timeout_s,
    )
    pool.size = min(config.encoders, len(work))

    def encode(encoder: Any, item: Work) -> Any:
        return encoder.encode_unit.remote(layer, item, {n: texts[n] for n in item.wanted})

    with pool:
        failures = run_units(pool, work, encode, count.add)
    _raise_failures(failures, len(work))
    return count.progress()


class _Door:
    """Opens a layer once an encoder is ready, and keeps out those that encode otherwise."""

    def __init__(self, root: Store, spec: LayerSpec, config: CacheConfig) -> None:
        self.has_canary = spec.layer == LATENT
        self.layer = find_layer(root, spec)
        self._root = root
        self._spec = spec
        self._tolerance = config.canary_tolerance

    def admit(self, canary: Canary | None) -> None:
        """Open the layer, and check what an encoder made of the canary clip."""
        if self.layer is None:
            self.layer = open_layer(self._root, dataclasses.replace(self._spec, canary=canary))
        if canary is not None:
            check_canary(self.layer.spec.canary, canary, tolerance=self._tolerance)

    def open(self) -> Layer:
        """Return the layer."""
        assert self.layer is not None, "an encoder was admitted"  # noqa: S101
        return self.layer


def _open_latents(open_encode: Callable[[], Encode]) -> Make:
    return make_latents(open_encode())


def _sized(record: Record, settings: Settings) -> Record:
    """Return the record of a clip with the size at which it is decoded."""
    return record if record.size else dataclasses.replace(record, size=settings.policy.size)


def _start(count: "_Count", layer: Layer | None, units: Sequence[Unit]) -> list[Work]:
    """Return the units that need an encoder; those that earlier commits know whole are committed.

    A unit changes with every file that comes, goes or changes; what it kept is only named again.
    """
    missing = missing_work(layer, units)
    count.begin(missing)
    for item in missing:
        if layer is not None and not item.wanted:
            won = layer.write(item.unit, [], known=item.known)
            samples = len(item.unit.members)
            count.add(Outcome(samples=samples, encoded=0, rejects={}, committed=won))
    return [item for item in missing if item.wanted]


def _raise_failures(failures: Sequence[Exception], units: int) -> None:
    """Say that some units are left to the next run, if so.

    Raises:
        CacheError: there are any.
    """
    if failures:
        raise CacheError(
            f"{len(failures)} of {units} units could not be finished, the first because of: "
            f"{reason(failures[0])}; the rest is committed, run precompute again for these"
        ) from failures[0]


class _Count:
    """Counts what is done and tells it."""

    def __init__(self, layer: str, units: Sequence[Unit], on_progress: OnProgress) -> None:
        self._layer = layer
        self._units = units
        self._tell = on_progress
        self._started_s = time.monotonic()
        self._units_done = self._samples_done = self._encoded = self._wanted = 0
        self._samples = sum(len(unit.members) for unit in units)
        self._rejects: Counter[str] = Counter()
        self._load = Load()
        self._encode_s = 0.0

    def begin(self, missing: Sequence[Work]) -> None:
        """Count what was done before."""
        ids = {item.unit.id for item in missing}
        done = [unit for unit in self._units if unit.id not in ids]
        self._wanted = sum(len(item.wanted) for item in missing)
        self._units_done = len(done)
        self._samples_done = sum(len(unit.members) for unit in done)
        self._tell(self.progress())

    def add(self, outcome: Outcome) -> None:
        """Count one more unit."""
        self._units_done += 1
        self._samples_done += outcome.samples
        self._encoded += outcome.encoded
        self._rejects.update(outcome.rejects)
        self._encode_s += outcome.encode_s
        self._tell(self.progress())

    def look(self, load: Load) -> None:
        """Take note of what goes on between units."""
        if load.encoders and not self._load.encoders and not load.settled:
            self._started_s = time.monotonic()  # a pace knows nothing of how actors start
        self._load = load
        self._tell(self.progress())

    def progress(self) -> Progress:
        """Return how far the layer is filled."""
        elapsed_s = max(time.monotonic() - self._started_s, 1e-9)
        settled = max(self._load.settled, self._encoded + self._rejects.total())
        samples_per_s = settled / elapsed_s
        left = max(self._wanted - settled, 0)
        return Progress(
            layer=self._layer,
            units_done=self._units_done,
            units=len(self._units),
            samples_done=self._samples_done,
            samples=self._samples,
            encoded=self._encoded,
            rejects=dict(sorted(self._rejects.items())),
            samples_per_s=samples_per_s,
            eta_s=left / samples_per_s if settled else None,
            load=dataclasses.replace(
                self._load, settled=settled, encode_s=self._load.encode_s + self._encode_s
            ),
        )
