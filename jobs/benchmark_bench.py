"""The benchmark of a synthetic world as a bench: suites as splits, with all that is looked at.

    world, version -> prompts by suite -> clips -> marks, measures, answers, null controls

The prompts follow from the world and the benchmark's version alone. Named with them are the seeds,
so that two results of equal version, world, prompts and seeds can be set side by side.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.evaluation_bench import Bench, Law, Question, Reference, filmed
from jobs.evaluation_config import EvaluationConfig
from jobs.memorisation import worlds_pools
from jobs.null_controls import Case, Eye, cases_of, examined
from video_platform.shapes.benchmark import (
    BENCHMARK_VERSION,
    BenchmarkPrompt,
    answers_of,
    benchmark_prompts,
    marks_of,
    measures_of,
    read,
    reference_programs,
)
from video_platform.shapes.expect import ATTRIBUTES, Asked, Expected
from video_platform.shapes.world import WorldConfig, origin_of, trained_combinations
from video_platform.shapes.write import WORLD_VERSION

UNSAID = "unsaid"
"""The suite whose prompts leave something open."""
STILL = (None, "still")
"""What is said of the motion of something that need not move."""


def benchmark_bench(world: WorldConfig, config: EvaluationConfig) -> Bench:
    """Ask a world's benchmark, `config.benchmark` prompts a suite.

    References are `config.reconstructions` clips of each suite beyond the dataset's end, read back
    from files as the dataset's are.
    """
    prompts = benchmark_prompts(world, per_suite=config.benchmark or 0)
    renders = reference_programs(world, per_suite=config.reconstructions)
    eye = eye_of(world)
    return Bench(
        questions=tuple(
            Question(prompt=prompt.text, expected=case, split=prompt.suite)
            for prompt, case in zip(
                prompts, _cases([(p.suite, p.expected) for p in prompts]), strict=True
            )
        ),
        references=tuple(
            Reference(frames=filmed(program), expected=case, split=case.suite)
            for (program, _, _), case in zip(
                renders, _cases([(suite, expected) for _, expected, suite in renders]), strict=True
            )
        ),
        examiner=lambda frames, case: examined(eye, frames, case),
        about=named(world, prompts, config),
        laws=laws_of(world, prompts),
        pools=worlds_pools(world),
    )


def eye_of(world: WorldConfig) -> Eye:
    """Return how clips of a world are looked at."""
    return Eye(
        read=lambda frames, suite: read(world, frames, suite),
        marks=marks_of,
        measures=measures_of,
        answers=lambda seen, suite: answers_of(seen) if suite == UNSAID else {},
    )


def _cases(tasks: Sequence[tuple[str, Expected]]) -> list[Case]:
    """Return a case for each task (suite, what is asked), in their order."""
    found: list[Case | None] = [None] * len(tasks)
    for seed, suite in enumerate(dict.fromkeys(suite for suite, _ in tasks)):
        places = [place for place, (other, _) in enumerate(tasks) if other == suite]
        asked = [tasks[place][1] for place in places]
        cases = cases_of(suite, asked, [moves(each) for each in asked], seed=seed)
        for place, case in zip(places, cases, strict=True):
            found[place] = case
    return [case for case in found if case is not None]


def moves(expected: Expected) -> bool:
    """Say whether something is asked to move."""
    motions = [*(each.motion for each in expected.objects), expected.text_motion]
    return any(motion not in STILL for motion in motions)


def named(
    world: WorldConfig, prompts: Sequence[BenchmarkPrompt], config: EvaluationConfig
) -> dict[str, str | int]:
    """Return what names a run of the benchmark: results are comparable where all of it is equal."""
    return {
        "version": BENCHMARK_VERSION,
        "world": world_hash(world),
        "prompts": len(prompts),
        "prompts_a_suite": config.benchmark or 0,
        "seeds": config.seeds,
        "first_seed": config.first_seed,
        "prompts_sha256": _sha256([prompt.text for prompt in prompts]),
    }


def world_hash(world: WorldConfig) -> str:
    """Return the fingerprint of a world: what is drawn and said, at which version."""
    return _sha256({"version": WORLD_VERSION, "world": origin_of(world)})


def _sha256(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def laws_of(world: WorldConfig, prompts: Sequence[BenchmarkPrompt]) -> dict[int, Mapping[str, Law]]:
    """Return, for each prompt that leaves something open, what training shows there.

    Training draws its combinations evenly, so that is the even law over those that go with what is
    said. Prompts of several objects have no such law here.
    """
    laws: dict[int, Mapping[str, Law]] = {}
    for index, prompt in enumerate(prompts):
        if prompt.suite == UNSAID and len(prompt.expected.objects) == 1:
            asked = prompt.expected.objects[0]
            laws[index] = {
                attribute: law_of(world, asked, attribute)
                for attribute in ATTRIBUTES
                if getattr(asked, attribute) is None
            }
    return laws


def law_of(world: WorldConfig, asked: Asked, attribute: str) -> Law:
    """Return the share of each value of an attribute among what training shows."""
    place = ATTRIBUTES.index(attribute)
    fitting = [
        each[place]
        for each in trained_combinations(world)
        if all(said in (None, shown) for said, shown in zip(asked, each, strict=True))
    ]
    return {value: count / len(fitting) for value, count in sorted(Counter(fitting).items())}
