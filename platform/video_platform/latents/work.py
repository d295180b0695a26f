"""What is still to be done of a layer, and how far a run has come."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from video_platform.latents.layer import Known, Layer
from video_platform.latents.units import Unit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """One unit that is not committed."""

    unit: Unit
    """The unit."""
    known: Known
    """What earlier commits hold of its samples: those are not made again."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Ids of the samples that are still to be made, sorted."""
        return tuple(m.id for m in self.unit.members if m.source not in self.known.done)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one unit."""

    samples: int
    """Its samples."""
    encoded: int
    """Those that were encoded for it."""
    rejects: Mapping[str, int]
    """Those that were refused now, by reason."""
    committed: bool = True
    """Whether this run committed it; False says that another one was first."""
    encode_s: float = 0.0
    """Seconds that an encoder spent on it, where it makes units whole."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """How much is done of what this run does, and how busy its actors are."""

    decoders: int = 0
    """Actors that decode."""
    encoders: int = 0
    """Actors that encode."""
    decoder_busy: float = 0.0
    """Share of the time since the first was there in which they had work, 0 to 1."""
    encoder_busy: float = 0.0
    """The same for those that encode."""
    bytes_in_flight: int = 0
    """Bytes that the frames of all clips take that are being decoded and encoded."""
    settled: int = 0
    """Clips that are encoded or refused, also those of units that are not committed yet."""
    decode_s: float = 0.0
    """Seconds that decoders spent on clips."""
    encode_s: float = 0.0
    """Seconds that encoders spent on clips or captions."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one layer is filled."""

    layer: str
    """`latent` or `text/<encoder>`."""
    units_done: int
    """Committed units, by this run and those before it."""
    units: int
    """All units of the source."""
    samples_done: int
    """Clips or captions of the committed units."""
    samples: int
    """All clips or captions of the source."""
    encoded: int
    """Encoded by this run."""
    rejects: Mapping[str, int]
    """Refused by this run, by reason."""
    samples_per_s: float
    """Encoded or refused a second by this run, also in units that are not committed yet."""
    eta_s: float | None = None
    """Seconds that the rest takes at this pace; None before there is one."""
    load: Load = Load()
    """Of a layer of clips, how busy the actors are."""


OnProgress = Callable[[Progress], None]


def missing_work(layer: Layer | None, units: Sequence[Unit]) -> list[Work]:
    """List the units that are not committed, with what earlier commits know of their samples."""
    if layer is None:
        return [Work(unit=unit, known=Known()) for unit in units]
    committed = layer.committed()
    missing = [unit for unit in units if unit.id not in committed]
    others = committed - {unit.id for unit in units}
    known = layer.known(others) if missing and others else Known()
    return [Work(unit=unit, known=known.of(unit)) for unit in missing]
