"""A fixed synthetic clip whose latents are recorded in the cache's SPEC.

It is encoded again before anything is added to a cache, and on every encoder: equal weights can
still give other latents through another kernel, precision or library, and that shows here.

Legend: C channels, T frames, H W pixels.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from video_platform.errors import StaleCacheError
from video_platform.video.policy import PixelPolicy

SEED = 1
LARGEST_SIDE = 64
"""Pixels; more would cost time and show nothing more."""

Frames = NDArray[np.uint8]
Encode = Callable[[Frames], tuple[torch.Tensor, torch.Tensor]]
"""Turns frames (B, T, H, W, 3) into mean and log-variance (B, C, T', H', W')."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canary:
    """Statistics of the canary clip's latents, a number a channel."""

    seed: int
    """Seed of the clip."""
    shape: tuple[int, ...]
    """Shape of the clip (T, H, W, 3)."""
    mean: tuple[float, ...]
    """Mean of the means."""
    std: tuple[float, ...]
    """Standard deviation of the means."""
    logvar: tuple[float, ...]
    """Mean of the log-variances."""

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "Canary":
        """Read what `dataclasses.asdict` made."""
        return cls(
            seed=tree["seed"],
            **{name: tuple(tree[name]) for name in ("shape", "mean", "std", "logvar")},
        )


def canary_clip(shape: tuple[int, ...], seed: int) -> Frames:
    """Return blocks of hashed colours that drift to the right, (T, H, W, 3)."""
    T, H, W, _ = shape
    block = 8
    rows, columns = -(-H // block), -(-(W + T) // block)
    noise = hashlib.shake_256(f"canary {seed}".encode()).digest(rows * columns * 3)
    coarse = np.frombuffer(noise, np.uint8).reshape(rows, columns, 3)
    wall = coarse.repeat(block, axis=0).repeat(block, axis=1)
    return np.stack([wall[:H, T - t : T - t + W] for t in range(T)])


def encode_canary(encode: Encode, policy: PixelPolicy) -> Canary:
    """Encode the canary clip, at the length of the policy's clips but no larger than needed."""
    shape = (policy.frames, min(policy.height, LARGEST_SIDE), min(policy.width, LARGEST_SIDE), 3)
    mean, logvar = encode(canary_clip(shape, SEED)[None])
    mean, logvar = mean[0].double().flatten(1), logvar[0].double().flatten(1)  # (C, T'H'W')
    return Canary(
        seed=SEED,
        shape=shape,
        mean=tuple(mean.mean(1).tolist()),
        std=tuple(mean.std(1, correction=0).tolist()),
        logvar=tuple(logvar.mean(1).tolist()),
    )


def check_canary(recorded: Canary | None, now: Canary, *, tolerance: float) -> None:
    """Compare two canaries of the same clip.

    Raises:
        StaleCacheError: there is none, or they differ by more than `tolerance` times the largest
            recorded number.
    """
    if recorded is None:
        raise StaleCacheError("the layer records no canary clip; encode into another cache.url")
    same_kind = (recorded.seed, recorded.shape, len(recorded.mean)) == (
        now.seed,
        now.shape,
        len(now.mean),
    )
    for name in ("mean", "std", "logvar"):
        then, found = np.array(getattr(recorded, name)), np.array(getattr(now, name))
        drift = np.abs(then - found).max() / np.abs(then).max() if same_kind else np.inf
        if not drift <= tolerance:
            raise StaleCacheError(
                "the canary clip no longer encodes to what the cache recorded "
                f"({name} is off by {drift:.2g} of its size, canary_tolerance is {tolerance:g}): "
                "another kernel, precision or library; encode as before, or into another cache.url"
            )
