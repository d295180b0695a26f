"""The shapes benchmark: fixed, versioned prompts in suites, and what a clip must show for each.

Prompts follow from the world and `BENCHMARK_VERSION` alone. A suite is balanced over its answers,
and a longer one begins with the shorter. What a world cannot show is not asked.

    for prompt in benchmark_prompts(world, per_suite=32):
        seen = read(world, frames_of(prompt.text), prompt.suite)
        marks_of(seen, prompt.expected, prompt.suite)  # {"binding": True, ...}
        measures_of(seen, prompt.expected, prompt.suite)  # {"smoothness": 0.004, ...}
"""

from dataclasses import dataclass

import numpy as np

from video_platform.shapes.captions import describe
from video_platform.shapes.detect import Frames
from video_platform.shapes.expect import Asked, Expected
from video_platform.shapes.program import Program, arrange, text_program
from video_platform.shapes.questions import QUESTIONS, balanced
from video_platform.shapes.seen import Seen, read_letters, read_objects
from video_platform.shapes.suites import answers_of, marks_of, measures_of
from video_platform.shapes.texts import place_text
from video_platform.shapes.world import (
    Combination,
    WorldConfig,
    held_out_combinations,
    trained_combinations,
)

__all__ = [
    "BENCHMARK_VERSION",
    "LOWER_IS_BETTER",
    "SUITES",
    "BenchmarkPrompt",
    "answers",
    "answers_of",
    "benchmark_prompts",
    "benchmark_suites",
    "marks",
    "marks_of",
    "measures",
    "measures_of",
    "program_showing",
    "read",
    "reference_programs",
]

BENCHMARK_VERSION = 1
"""Goes up when the same world is asked other prompts, or a clip is judged in another way."""

SUITES: tuple[str, ...] = tuple(QUESTIONS)
"""In the order in which they are asked."""

LOWER_IS_BETTER = ("swapped", "blended", "smoothness")
"""Marks that are failures, and measures that are best at 0."""

_PROMPTS, _REFERENCES = 0xBE7C, 0x4EF5
_MOST_DRAWS = 100


@dataclass(frozen=True, kw_only=True)
class BenchmarkPrompt:
    """One prompt and what a clip must show."""

    text: str
    """A caption in the plain wording."""
    suite: str
    """One of `SUITES`."""
    expected: Expected
    """What `marks_of` compares a clip with."""


def benchmark_suites(world: WorldConfig) -> tuple[str, ...]:
    """Return the suites that a world can show."""
    return tuple(dict.fromkeys(each.suite for each in benchmark_prompts(world, per_suite=1)))


def benchmark_prompts(world: WorldConfig, *, per_suite: int) -> tuple[BenchmarkPrompt, ...]:
    """Return the prompts of every suite that the world can show, suite by suite.

    Args:
        world: its number of clips does not matter.
        per_suite: prompts in each suite; more than there are answers ask the same again.
    """
    if per_suite < 1:
        raise ValueError(f"per_suite={per_suite}: give 1 or more")
    prompts: list[BenchmarkPrompt] = []
    for number, (suite, candidates) in enumerate(QUESTIONS.items()):
        rng = np.random.default_rng((_PROMPTS, BENCHMARK_VERSION, world.seed, number))
        prompts += [
            BenchmarkPrompt(text=describe(expected), suite=suite, expected=expected)
            for expected in balanced(list(candidates(world, rng)), per_suite, rng)
        ]
    return tuple(prompts)


def reference_programs(
    world: WorldConfig, *, per_suite: int
) -> tuple[tuple[Program, Expected, str], ...]:
    """Return clips that show what the prompts ask, none of them a clip of the dataset.

    The detectors read every one of them, so what an autoencoder loses of them is its own.

    Returns:
        For each prompt, in order: a program, what its prompt expects, and the suite.
    """
    prompts = benchmark_prompts(world, per_suite=per_suite)
    references = []
    for number, prompt in enumerate(prompts):
        rng = np.random.default_rng((_REFERENCES, BENCHMARK_VERSION, world.seed, number))
        references.append(
            (program_showing(world, prompt.expected, rng), prompt.expected, prompt.suite)
        )
    return tuple(references)


def program_showing(world: WorldConfig, expected: Expected, rng: np.random.Generator) -> Program:
    """Draw a program that shows what is asked, and of what is left open what training shows.

    Raises:
        ValueError: there is no room for it.
    """
    if expected.text is not None:
        text = place_text(
            world,
            expected.text,
            colour=expected.text_colour or world.colours[0],
            motion=expected.text_motion or "still",
            rng=rng,
        )
        return text_program(world, text)
    wanted = () if expected.relation is None else (expected.relation,)
    for _ in range(_MOST_DRAWS):
        filled = {asked: _filled(world, asked, rng) for asked in expected.objects}
        program = arrange(
            world, [filled[asked] for asked in expected.objects], rng, relations=wanted
        )
        if program.relation == expected.relation:
            return program
    raise ValueError(f"there is no room for {describe(expected)!r}: lower radius or travel")


def _filled(world: WorldConfig, asked: Asked, rng: np.random.Generator) -> Combination:
    """Choose what an object shows of what was not said; a withheld one only when all was said."""
    whole = Combination(*(name or "" for name in asked))
    if whole in held_out_combinations(world):
        return whole
    fitting = [
        each
        for each in trained_combinations(world)
        if all(name in (None, value) for name, value in zip(asked, each, strict=True))
    ]
    return fitting[int(rng.integers(len(fitting)))]


def read(world: WorldConfig, frames: Frames, suite: str) -> Seen:
    """Look at a clip once, for any number of `marks_of` and `measures_of` of one suite.

    Args:
        world: the world that was asked; the clip's size and length need not be its own.
        frames: RGB in 8 bits, (T, H, W, 3).
        suite: one of `SUITES`: "text" looks for letters, every other one for objects.
    """
    return read_letters(world, frames) if suite == "text" else read_objects(world, frames)


def marks(world: WorldConfig, frames: Frames, expected: Expected, suite: str) -> dict[str, bool]:
    """Look at a clip and say what it got right: `marks_of`."""
    return marks_of(read(world, frames, suite), expected, suite)


def measures(
    world: WorldConfig, frames: Frames, expected: Expected, suite: str
) -> dict[str, float]:
    """Look at a clip and measure it: `measures_of`."""
    return measures_of(read(world, frames, suite), expected, suite)


def answers(world: WorldConfig, frames: Frames, suite: str) -> dict[str, str]:
    """Look at a clip and say what it shows of each attribute: `answers_of`."""
    return answers_of(read(world, frames, suite))
