"""Which cached clips make up which step of training: by shape, by cache, pictures and clips apart.

    order = latent_order(parts, weights=[3, 1], config=config, image_share=Fraction(1, 4))

Every share is exact over a window of draws, whatever is in the caches and on any number of workers.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from video_platform.batches.mix import Mix
from video_platform.batches.order import Bucket, Merged, Order, Ordered
from video_platform.batches.places import Places
from video_platform.errors import ConfigError
from video_platform.training.config import TrainingConfig

Size = tuple[int, int, int]
"""Latent frames, rows and columns."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Clips of one shape in one cache."""

    cache: int
    """Its number."""
    size: Size
    """Of their latents."""
    places: Places
    """Where the clips are in all caches joined."""

    @property
    def tokens(self) -> int:
        """Positions of a latent, T x H x W."""
        return math.prod(self.size)

    @property
    def image(self) -> bool:
        """Whether they are pictures: clips of one latent frame."""
        return self.size[0] == 1


def latent_order(
    parts: Sequence[Part],
    *,
    weights: Sequence[float],
    config: TrainingConfig,
    image_share: float | None = None,
    work: Callable[[Size], float] | None = None,
) -> Ordered:
    """Return the endless sequence of global batches of some clips.

    Args:
        parts: the clips.
        weights: share of each cache, relative to the others'.
        config: how many make up a batch, and the seed.
        image_share: share of the draws that are pictures; the weights then divide the pictures
            among the caches that have some, and the clips likewise. None takes what comes.
        work: what one clip costs the network, relative to others; None goes by the tokens.

    Raises:
        ConfigError: a share is asked of what is not there, or a draw is smaller than a clip.
    """
    _check_draws(parts, config)

    def bucket(part: Part) -> Bucket:
        sizes = config.sizes(part.tokens, draws=config.draws)
        cost = None if work is None else work(part.size)
        return Bucket(part.places, *sizes, tokens=part.tokens, work=cost)

    def by_cache(chosen: Sequence[Part]) -> Ordered:
        caches = sorted({part.cache for part in chosen})
        orders = [
            Order([bucket(part) for part in chosen if part.cache == cache], seed=config.seed)
            for cache in caches
        ]
        shares = [weights[cache] for cache in caches]
        return Mix(orders, weights=shares, seed=config.seed) if orders[1:] else orders[0]

    if image_share is None:
        order = by_cache(parts)
    else:
        kinds = [(by_cache(group), share) for group, share in _by_kind(parts, image_share)]
        orders, shares = zip(*kinds, strict=True)
        order = Mix(orders, weights=shares, seed=config.seed) if orders[1:] else orders[0]
    return Merged(order, config.draws) if config.draws > 1 else order


def size_of(shape: Sequence[int]) -> Size:
    """Return (T, H, W) of (C, T, H, W)."""
    _, T, H, W = shape
    return T, H, W


def _by_kind(
    parts: Sequence[Part], image_share: float
) -> Iterator[tuple[Sequence[Part], Fraction]]:
    """Yield clips and pictures that there are, and their share of the draws."""
    images = Fraction(str(image_share)).limit_denominator(1000)  # 0.3333 is a third
    for image, share in ((False, 1 - images), (True, images)):
        group = [part for part in parts if part.image == image and len(part.places)]
        if share and not group:
            raise ConfigError(
                f"image_share is {image_share}, and the caches hold no "
                f"{'pictures' if image else 'clips'} to train on; "
                f"set it to {'null' if image else '1'}, or add some to a cache"
            )
        if share:
            yield group, share


def _check_draws(parts: Sequence[Part], config: TrainingConfig) -> None:
    """Refuse draws that hold no clip, since they would be of more than their part of a batch."""
    if config.batch_tokens is None or config.draws == 1:
        return
    largest = max(part.tokens for part in parts) * config.batch_multiple
    if largest * config.draws > config.batch_tokens:
        raise ConfigError(
            f"batch_tokens = {config.batch_tokens} in {config.draws} draws has "
            f"{config.batch_tokens // config.draws} tokens a draw, and the largest clips take "
            f"{largest}; lower draws or raise batch_tokens to {largest * config.draws}"
        )
