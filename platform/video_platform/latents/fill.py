"""Fill the layers of a cache on Ray: whatever is committed already is left alone.

    fill_latents(root, spec, records, settings=settings, open_encode=..., on_progress=print)

Decoders and encoders are pools of their own, scaled apart; with nothing to do Ray is not touched.
"""

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any

from video_platform.datasets.record import Record
from video_platform.latents.canary import Canary, Encode, check_canary
from video_platform.latents.config import CacheConfig
from video_platform.latents.decoding import Decoder
from video_platform.latents.layer import Layer, find_layer, open_layer
from video_platform.latents.manifest import captions, latent_units, text_units
from video_platform.latents.pool import Seat, actors, run_units, wait_until_ready
from video_platform.latents.spec import LayerSpec
from video_platform.latents.units import Unit
from video_platform.latents.work import OnProgress, Outcome, Progress, Work, missing_work
from video_platform.latents.workers import CaptionEncoder, ClipEncoder, EncodeText
from video_platform.storage import Store
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How clips are decoded and encoded."""

    cache: CacheConfig
    """Pools, batches and precisions."""
    policy: PixelPolicy
    """The pixels of a clip."""
    limits: MediaLimits
    """Which media are refused."""


def fill_latents(
    root: Store,
    spec: LayerSpec,
    records: Sequence[Record],
    *,
    settings: Settings,
    open_encode: Callable[[], Encode],
    on_progress: OnProgress,
) -> Progress:
    """Commit every unit of clips that is not committed yet.

    Args:
        root: the cache.
        spec: the latent layer, without its canary.
        records: the source.
        settings: how clips are decoded and encoded.
        open_encode: opens the autoencoder, inside an actor.
        on_progress: is told at the start and after each unit.

    Raises:
        StaleCacheError: the canary clip does not encode to what the layer recorded.
        CacheError: some units could not be done now; the others are.
        ClusterError: the cluster has no room for the actors.
    """
    config = settings.cache
    units = latent_units(records, config.unit_size)
    found = find_layer(root, spec)
    count = _Count(spec.layer, units, on_progress)
    work = _start(count, found, units)
    if not work:
        return count.progress()
    clips = {record.id: record for record in records}
    with _clip_pools(settings, open_encode) as (decoders, encoders, canaries):
        layer = found or open_layer(root, dataclasses.replace(spec, canary=canaries[0]))
        for canary in canaries:
            check_canary(layer.spec.canary, canary, tolerance=config.canary_tolerance)

        def encode(encoder: Any, item: Work) -> Any:
            wanted = {name: clips[name] for name in item.wanted}
            return encoder.encode_unit.remote(layer, item, wanted, decoders)

        run_units(encoders, work, encode, count.add)
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
    desks = Seat(cpus=config.cpus_per_encoder)
    with actors(
        CaptionEncoder, min(config.encoders, len(work)), desks, open_encode, config
    ) as pool:
        wait_until_ready(
            [pool], timeout_s=config.start_timeout_s, needs=_needs(config, decoding=False)
        )

        def encode(encoder: Any, item: Work) -> Any:
            return encoder.encode_unit.remote(layer, item, {n: texts[n] for n in item.wanted})

        run_units(pool, work, encode, count.add)
    return count.progress()


@contextlib.contextmanager
def _clip_pools(
    settings: Settings, open_encode: Callable[[], Encode]
) -> Iterator[tuple[list[Any], list[Any], list[Canary]]]:
    """Have decoders and encoders inside the block, all of them ready; the last are the canaries."""
    config, policy = settings.cache, settings.policy
    chairs = Seat(cpus=config.cpus_per_decoder)
    desks = Seat(cpus=config.cpus_per_encoder, gpus=config.gpus_per_encoder)
    with (
        actors(Decoder, config.decoders, chairs, policy, settings.limits) as decoders,
        actors(ClipEncoder, config.encoders, desks, open_encode, policy, config) as encoders,
    ):
        canaries = wait_until_ready(
            [decoders, encoders],
            timeout_s=config.start_timeout_s,
            needs=_needs(config, decoding=True),
        )
        yield decoders, encoders, canaries


def _start(count: "_Count", layer: Layer | None, units: Sequence[Unit]) -> list[Work]:
    """Return the units that need an encoder; those that earlier commits know whole are committed.

    A unit changes with every file that comes, goes or changes; what it kept is only named again.
    """
    missing = missing_work(layer, units)
    count.begin({item.unit.id for item in missing})
    for item in missing:
        if layer is not None and not item.wanted:
            won = layer.write(item.unit, [], known=item.known)
            samples = len(item.unit.members)
            count.add(Outcome(samples=samples, encoded=0, rejects={}, committed=won))
    return [item for item in missing if item.wanted]


def _needs(config: CacheConfig, *, decoding: bool) -> str:
    """Say what the actors take of the cluster."""
    parts = [f"{config.encoders} encoders x {config.cpus_per_encoder:g} CPUs"]
    if decoding and config.gpus_per_encoder:
        parts.append(f"{config.encoders} encoders x {config.gpus_per_encoder:g} GPUs")
    if decoding:
        parts.append(f"{config.decoders} decoders x {config.cpus_per_decoder:g} CPUs")
    return " + ".join(parts)


class _Count:
    """Counts what is done and tells it."""

    def __init__(self, layer: str, units: Sequence[Unit], on_progress: OnProgress) -> None:
        self._layer = layer
        self._units = units
        self._tell = on_progress
        self._started_s = time.monotonic()
        self._units_done = self._samples_done = self._encoded = 0
        self._rejects: Counter[str] = Counter()

    def begin(self, missing: Set[str]) -> None:
        """Count what was done before."""
        done = [unit for unit in self._units if unit.id not in missing]
        self._units_done = len(done)
        self._samples_done = sum(len(unit.members) for unit in done)
        self._tell(self.progress())

    def add(self, outcome: Outcome) -> None:
        """Count one more unit."""
        self._units_done += 1
        self._samples_done += outcome.samples
        self._encoded += outcome.encoded
        self._rejects.update(outcome.rejects)
        self._tell(self.progress())

    def progress(self) -> Progress:
        """Return how far the layer is filled."""
        elapsed_s = max(time.monotonic() - self._started_s, 1e-9)
        return Progress(
            layer=self._layer,
            units_done=self._units_done,
            units=len(self._units),
            samples_done=self._samples_done,
            samples=sum(len(unit.members) for unit in self._units),
            encoded=self._encoded,
            rejects=dict(sorted(self._rejects.items())),
            samples_per_s=(self._encoded + self._rejects.total()) / elapsed_s,
        )
