"""Randomness that belongs to a sample: the same numbers on every machine, batch size and device."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def generator_of(*key: int | str) -> Generator:
    """Return a CPU generator that depends on the key alone, such as (seed, sample, step)."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def initial_noise(seed: int, shape: Sequence[int]) -> Tensor:
    """Return the noise that a clip of this seed starts from, (C, T, H, W) float32 on the CPU."""
    return torch.randn(*shape, generator=generator_of(seed, "noise"))


def step_noise(seed: int, step: int, shape: Sequence[int]) -> Tensor:
    """Return the fresh noise that a clip of this seed gets at a step of a stochastic sampler."""
    return torch.randn(*shape, generator=generator_of(seed, "step", step))
