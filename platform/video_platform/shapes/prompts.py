"""The questions of an evaluation: captions, and what a clip must show to be right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from video_platform.shapes.captions import caption
from video_platform.shapes.program import draw_program
from video_platform.shapes.world import (
    Combination,
    WorldConfig,
    held_out_combinations,
    trained_combinations,
)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One question and its right answer."""

    text: str
    """The caption, in the plain wording."""
    expected: tuple[Combination, ...]
    """What `judge` compares a clip with, one for each object."""
    held_out: bool
    """Whether it asks for a combination that training never showed."""


def evaluation_prompts(config: WorldConfig, count: int, seed: int) -> list[Prompt]:
    """Draw prompts, half of trained combinations and half of withheld ones, trained first.

    Each half goes once through all of its combinations, in an order of its own, before one comes
    again. A world that withholds nothing gives trained ones alone.

    Args:
        config: the world.
        count: prompts in all.
        seed: another seed is another order and, with several objects, other company.
    """
    if count < 1 or seed < 0:
        raise ValueError(f"count={count}, seed={seed}: give count >= 1 and seed >= 0")
    withheld = held_out_combinations(config)
    num_withheld = count // 2 if withheld else 0
    trained = _prompts(config, trained_combinations(config), count - num_withheld, (seed, 0))
    others = _prompts(config, withheld, num_withheld, (seed, 1))
    return [*trained, *others]


def _prompts(
    config: WorldConfig, pool: Sequence[Combination], count: int, seed: tuple[int, int]
) -> list[Prompt]:
    order = np.random.default_rng((*seed, config.seed)).permutation(len(pool))
    prompts = []
    for number in range(count):
        first = pool[int(order[number % len(pool)])]
        rng = np.random.default_rng((*seed, config.seed, number))
        expected = draw_program(config, first, rng).combinations
        prompts.append(Prompt(text=caption(expected), expected=expected, held_out=bool(seed[1])))
    return prompts
