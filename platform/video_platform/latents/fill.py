"""Fill the layers of a cache on Ray: whatever is committed already is left alone.

    fill_latents(root, spec, records, settings=settings, open_encode=..., on_progress=print)

Decoders and encoders are pools of their own, scaled apart; with nothing to do Ray is not touched.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence

from video_platform.datasets.record import Record
from video_platform.latents.canary import Encode, check_canary
from video_platform.latents.config import CacheConfig
from video_platform.latents.layer import Layer, find_layer, open_layer
from video_platform.latents.manifest import captions, latent_units, text_units
from video_platform.latents.spec import LayerSpec
from video_platform.latents.units import Unit
from video_platform.latents.work import OnProgress, Outcome, Progress, Work, missing_work
from video_platform.latents.workers import CaptionEncoder, ClipEncoder, Decoder, EncodeText
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
    units = latent_units(records, settings.cache.unit_size)
    layer = find_layer(root, spec)
    count = _Count(spec.layer, units, on_progress)
    work = _adopt(layer, missing_work(layer, units), count)
    if work:
        _encode_clips(root, spec, {r.id: r for r in records}, work, settings, open_encode, count)
    return count.progress()
