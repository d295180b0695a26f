"""What filling a cache is expected to take: time, machines, storage, money.

`rehearsal.py` measures what a sample of each layer takes of a decoder and of an encoder; from this
follows how long all of them take on any number of either. A forecast is kept beside the cache, and
the report of the run that follows says how right it was.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from jobs.cache_layers import CacheLayers
from jobs.precompute_config import ForecastConfig
from video_platform.clips.config import ClipsConfig
from video_platform.config import as_tree
from video_platform.datasets.record import Record
from video_platform.datasets.source import source_fingerprint
from video_platform.latents.config import CacheConfig
from video_platform.latents.sealed import digest, seal, unseal
from video_platform.storage import Store

SCAN = "scan"
"""What looking through videos is called beside the layers."""

TIMES = (1, 2, 4, 8)
"""How many times more decoders and encoders a forecast is also told for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """What making one layer takes."""

    start_s: float
    """Seconds until everybody is at work, and at the end until all is written."""
    decode_s: float
    """Seconds of one decoder for one sample; 0 in a layer of captions."""
    encode_s: float
    """Seconds of one encoder for one sample."""
    size_bytes: float
    """Stored bytes of one sample."""

    def seconds(self, samples: int, *, decoders: int, encoders: int) -> float:
        """Return how long so many samples take; the side that is busier decides."""
        if not samples:
            return 0.0
        return self.start_s + samples * max(self.decode_s / decoders, self.encode_s / encoders)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """What filling a cache with a source is expected to take."""

    about: str
    """Hash of the source and of the layers; see `forecast_key`."""
    sampled: int
    """Clips that it was made from."""
    rejected: int
    """Those of them that were refused."""
    clips: int
    """Clips of the source, as far as a few of its videos tell."""
    samples: Mapping[str, int]
    """Samples of each layer, all of the source; `scan` is the videos that are looked through."""
    paces: Mapping[str, Pace]
    """What a sample of each layer takes."""
    decoders: int
    """Decoders that are to do the work."""
    encoders: int
    """Encoders that are to do the work."""

    def seconds(self, made: Mapping[str, int] | None = None, *, times: int = 1) -> float:
        """Return how long it takes.

        Args:
            made: samples of each layer; None is all of the source.
            times: how many times more decoders and encoders there are.
        """
        counts = self.samples if made is None else made
        workers = {"decoders": self.decoders * times, "encoders": self.encoders * times}
        return sum(p.seconds(counts.get(name, 0), **workers) for name, p in self.paces.items())

    def size_bytes(self) -> float:
        """Return how much will be stored of the whole source."""
        return sum(self.samples[name] * pace.size_bytes for name, pace in self.paces.items())

    def save(self, root: Store) -> None:
        """Keep it beside the cache; a later forecast of the same takes its place."""
        root.put(_key(self.about), seal(dataclasses.asdict(self)))


def forecast_key(files: Sequence[Record], layers: CacheLayers, clips: ClipsConfig | None) -> str:
    """Return a hash of a source, the way in which it is cut, and the layers made of it."""
    specs = (layers.latent.spec, *(layer.spec for layer in layers.text.values()))
    folders = [spec.folder for spec in (*specs, *(each.spec for each in layers.further.values()))]
    cut = None if clips is None else as_tree(clips)
    return digest([source_fingerprint(list(files)), sorted(folders), cut])[:16]


def load_forecast(root: Store, about: str) -> Forecast | None:
    """Read a forecast, if there is one."""
    key = _key(about)
    if not root.exists(key):
        return None
    tree = unseal(root.read(key), key)
    del tree["sha256"]
    paces = {name: Pace(**pace) for name, pace in tree["paces"].items()}
    return Forecast(**{**tree, "paces": paces})


def describe(found: Forecast, cache: CacheConfig, prices: ForecastConfig) -> str:
    """Spell a forecast: a line a layer, the whole, and the same with more workers."""
    lines = [
        f"forecast from {found.sampled} of {found.clips} clips, {found.rejected} of them refused; "
        f"{found.decoders} decoders, {found.encoders} encoders"
    ]
    for name, pace in found.paces.items():
        each = f"{1e3 * pace.encode_s:.1f} ms of an encoder"
        if pace.decode_s:
            each = f"{1e3 * pace.decode_s:.1f} ms of a decoder, {each}"
        lines.append(
            f"  {name}: {found.samples[name]} samples, each {each}, {pace.size_bytes:.0f} bytes"
        )
    lines += [f"  {line}" for line in _totals(found, cache, prices)]
    return "\n".join(lines)


def _totals(found: Forecast, cache: CacheConfig, prices: ForecastConfig) -> Iterator[str]:
    """Say what the whole takes."""
    size_bytes = found.size_bytes()
    for times in TIMES:
        hours = found.seconds(times=times) / 3600
        decoders, encoders = found.decoders * times, found.encoders * times
        cpu_hours = hours * (decoders * cache.cpus_per_decoder + encoders * cache.cpus_per_encoder)
        gpu_hours = hours * encoders * cache.gpus_per_encoder
        parts = [f"{hours:.2g} h", f"{found.clips / hours / 3600:.1f} clips/s"]
        parts.append(f"{cpu_hours:.2g} CPU-hours")
        if gpu_hours:
            parts.append(f"{gpu_hours:.2g} GPU-hours")
        if prices.encoder_price_per_hour is not None:
            money = hours * (
                encoders * prices.encoder_price_per_hour + decoders * prices.decoder_price_per_hour
            )
            parts.append(f"{money:.2f} {prices.currency}")
        yield f"{decoders} decoders, {encoders} encoders: {', '.join(parts)}"
    stored = f"{size_bytes / 1e9:.3g} GB stored"
    if prices.storage_price_per_tb_month is not None:
        money = size_bytes / 1e12 * prices.storage_price_per_tb_month
        stored += f", {money:.2f} {prices.currency} a month"
    yield stored


def _key(about: str) -> str:
    return f"forecasts/{about}.json"
