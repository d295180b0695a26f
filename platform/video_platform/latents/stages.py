"""The two pools that fill a layer of clips, how busy each is, and how large each should be."""

import dataclasses
import functools
import time
from collections.abc import Callable

from video_platform.latents.calls import Calls
from video_platform.latents.canary import Canary
from video_platform.latents.config import CacheConfig
from video_platform.latents.decoding import Decoder
from video_platform.latents.making import OpenMake
from video_platform.latents.meter import Meter
from video_platform.latents.pool import Pool, Seat, start_actor
from video_platform.latents.scaling import Side, rescale
from video_platform.latents.work import Load
from video_platform.latents.workers import ClipEncoder
from video_platform.video.limits import MediaLimits
from video_platform.video.policy import PixelPolicy

SCALE_EVERY_S = 10.0
"""How often it is decided how large the pools should be."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How clips are decoded and encoded."""

    cache: CacheConfig
    """Pools, batches and precisions."""
    policy: PixelPolicy
    """The pixels of a clip."""
    limits: MediaLimits
    """Which media are refused."""


class Stages:
    """Decoders and encoders.

    Attributes:
        calls: what both work on.
        decoders: those that decode.
        encoders: those that encode and write.
    """

    def __init__(
        self,
        settings: Settings,
        open_make: OpenMake,
        *,
        canary: bool,
        admit: Callable[[Canary | None], None],
    ) -> None:
        """Make the pools, of no actors yet.

        Args:
            settings: how clips are decoded and encoded.
            open_make: opens what encodes, inside an actor.
            canary: whether encoders encode the canary clip before anything else.
            admit: is given each encoder's canary; what it raises ends the run.
        """
        config, policy = settings.cache, settings.policy
        pool = functools.partial(Pool, calls=Calls(), timeout_s=config.start_timeout_s)
        chair = Seat(cpus=config.cpus_per_decoder)
        desk = Seat(cpus=config.cpus_per_encoder, gpus=config.gpus_per_encoder)
        self.decoders = pool(
            "decoders",
            chair,
            functools.partial(start_actor, Decoder, chair, policy, settings.limits),
            admit=lambda _: None,
        )
        self.encoders = pool(
            "encoders",
            desk,
            functools.partial(
                start_actor, ClipEncoder, desk, open_make, policy if canary else None, config
            ),
            admit=admit,
        )
        self.decoders.size, self.encoders.size = config.decoders, config.encoders
        self.calls = self.decoders.calls
        self._config = config
        self._meters = (Meter(), Meter())
        self._marks = tuple(meter.mark() for meter in self._meters)
        self._scaled_s = time.monotonic()

    def keep(self) -> None:
        """Start and end actors as it is due."""
        if time.monotonic() - self._scaled_s >= SCALE_EVERY_S:
            self._scaled_s = time.monotonic()
            self._rescale()
        self.encoders.keep()  # they come first: there may be room for no more than some
        self.decoders.keep()

    def note(self) -> None:
        """Note who has something to do from now on."""
        now_s = time.monotonic()
        for pool, meter in zip(self._pools, self._meters, strict=True):
            meter.tell(now_s, size=len(pool.ready), busy=pool.busy)

    def load(self) -> Load:
        """Return how many there are, and how busy they were so far."""
        decoder_busy, encoder_busy = (meter.share() for meter in self._meters)
        return Load(
            decoders=len(self.decoders.ready),
            encoders=len(self.encoders.ready),
            decoder_busy=decoder_busy,
            encoder_busy=encoder_busy,
        )

    @property
    def _pools(self) -> tuple[Pool, Pool]:
        return self.decoders, self.encoders

    def _bounds(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the fewest and the most decoders, and the same of encoders."""
        import ray

        config = self._config
        most_encoders = config.max_encoders or config.encoders
        most = config.max_decoders
        if most is None:
            cpus = ray.cluster_resources().get("CPU", 0.0)
            left = cpus - self.encoders.size * config.cpus_per_encoder
            most = int(left / config.cpus_per_decoder) if config.cpus_per_decoder else 0
        return (config.decoders, max(most, config.decoders)), (config.encoders, most_encoders)

    def _rescale(self) -> None:
        sides = [
            Side(
                size=len(pool.ready),
                waiting=pool.waiting,
                busy=meter.share(mark),
                least=least,
                most=most,
            )
            for pool, meter, mark, (least, most) in zip(
                self._pools, self._meters, self._marks, self._bounds(), strict=True
            )
        ]
        sizes = rescale(*sides)
        for pool, side, size in zip(self._pools, sides, sizes, strict=True):
            pool.size = max(size, side.least)
        self._marks = tuple(meter.mark() for meter in self._meters)
