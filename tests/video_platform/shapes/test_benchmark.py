"""The benchmark's prompts: fixed, balanced, and asked only of worlds that can show them."""

import dataclasses
import hashlib
from collections import Counter

import numpy as np
import pytest

from tests.video_platform.shapes.filming import DEMO, RICH
from video_platform.shapes.benchmark import (
    BENCHMARK_VERSION,
    SUITES,
    benchmark_prompts,
    benchmark_suites,
    reference_programs,
)
from video_platform.shapes.captions import clip_at, describe
from video_platform.shapes.expect import ATTRIBUTES, Asked, truth_of
from video_platform.shapes.program import program_at
from video_platform.shapes.world import RELATIONS, WorldConfig, held_out_combinations

PINS = {
    "demo": "4dcd10fdaee7af4b7b373547834ac66eca3333c141a93500bb761e4fe48198c3",
    "rich": "b228e9dd5692661d05a92ebb636f4ab44d05f404ae8c584c480b58e756380fcb",
}


@pytest.mark.parametrize(("name", "world"), [("demo", DEMO), ("rich", RICH)])
def test_the_prompts_of_version_1_never_change(name, world):
    asked = [
        (prompt.suite, prompt.text, dataclasses.astuple(prompt.expected))
        for prompt in benchmark_prompts(world, per_suite=64)
    ]
    assert BENCHMARK_VERSION == 1
    assert hashlib.sha256(repr(asked).encode()).hexdigest() == PINS[name]


@pytest.fixture(scope="module")
def rich():
    prompts = benchmark_prompts(RICH, per_suite=60)
    return {suite: [p for p in prompts if p.suite == suite] for suite in SUITES}


def spread(values):
    """Return how much more often the commonest value comes than the rarest."""
    counts = Counter(values).values()
    return max(counts) - min(counts)


def test_suites_come_in_order_and_the_number_of_clips_is_no_matter(rich):
    assert [len(prompts) for prompts in rich.values()] == [60] * 8
    in_order = [p.suite for p in benchmark_prompts(RICH, per_suite=2)]
    assert in_order == [suite for suite in SUITES for _ in range(2)]
    other = dataclasses.replace(RICH, num_clips=7)
    assert benchmark_prompts(other, per_suite=3) == benchmark_prompts(RICH, per_suite=3)
    assert benchmark_prompts(RICH, per_suite=3) != benchmark_prompts(
        dataclasses.replace(RICH, seed=1), per_suite=3
    )


def test_a_longer_suite_begins_with_the_shorter(rich):
    for prompt, other in zip(
        (p for suite in SUITES for p in rich[suite][:5]),
        benchmark_prompts(RICH, per_suite=5),
        strict=True,
    ):
        assert prompt == other


def test_every_answer_comes_equally_often(rich):
    objects = {suite: [p.expected.objects for p in prompts] for suite, prompts in rich.items()}
    assert spread((o[0].colour, o[0].shape) for o in objects["one object"]) <= 1
    assert spread(o[0].motion for o in objects["motion"]) == 0
    assert spread(len(o) for o in objects["counting"]) == 0
    assert spread((o[0].shape, o[1].shape) for o in objects["two objects"]) == 0
    assert spread(p.expected.relation for p in rich["relation"]) == 0
    assert spread(len(p.expected.text) for p in rich["text"]) == 0
    assert spread(o[0] for o in objects["withheld"]) <= 1
    assert spread(o[0].index(None) for o in objects["unsaid"]) == 0
    assert {p.expected.relation for p in rich["relation"]} == set(RELATIONS)


def test_what_is_not_asked_about_is_spread_too(rich):
    for suite in ("one object", "two objects", "counting", "relation", "motion"):
        for place, attribute in enumerate(ATTRIBUTES[: 2 if suite == "relation" else 3]):
            values = [each[place] for p in rich[suite] for each in set(p.expected.objects)]
            assert spread(values) <= 3, (suite, attribute, Counter(values))
    assert spread(p.expected.text_colour for p in rich["text"]) <= 1
    letters = Counter(letter for p in rich["text"] for letter in p.expected.text)
    assert set(letters) == set(RICH.letters) and max(letters.values()) <= 2 * min(letters.values())


def test_two_objects_share_no_colour_and_no_shape(rich):
    for prompt in (*rich["two objects"], *rich["relation"]):
        first, second = prompt.expected.objects
        assert first.colour != second.colour and first.shape != second.shape


def test_withheld_combinations_are_asked_in_their_suite_and_shown_nowhere_else(rich):
    withheld = {Asked(*each) for each in held_out_combinations(RICH)}
    for suite, prompts in rich.items():
        for prompt in prompts:
            assert (suite == "withheld") == bool(withheld & set(prompt.expected.objects))
    for program, _, suite in reference_programs(RICH, per_suite=6):
        assert (suite == "withheld") == bool(withheld & set(truth_of(program).objects))


def test_a_prompt_is_the_plain_caption_of_what_it_expects(rich):
    for prompts in rich.values():
        for prompt in prompts:
            assert prompt.text == describe(prompt.expected)
            assert len(prompt.text.split()) <= 19


def test_prompts_use_no_word_that_captions_do_not(rich):
    known = {word for index in range(400) for word in clip_at(RICH, index)[1].split()}
    assert {word for prompts in rich.values() for p in prompts for word in p.text.split()} <= known


def test_references_show_what_is_asked_and_are_no_clips_of_the_dataset(rich):
    references = reference_programs(RICH, per_suite=4)
    asked = benchmark_prompts(RICH, per_suite=4)
    assert [(expected, suite) for _, expected, suite in references] == [
        (prompt.expected, prompt.suite) for prompt in asked
    ]
    dataset = {program_at(RICH, index) for index in range(60)}
    for program, expected, _ in references:
        assert program not in dataset
        truth = truth_of(program)
        assert (truth.text, truth.relation) == (expected.text, expected.relation)
        for shown, said in zip(truth.objects, expected.objects, strict=True):
            assert all(b in (None, a) for a, b in zip(shown, said, strict=True))
    assert references == reference_programs(RICH, per_suite=4)


@pytest.mark.parametrize(
    ("knobs", "suites"),
    [
        ({}, {"one object", "motion", "withheld"}),
        ({"held_out": 0.0}, {"one object", "motion"}),
        ({"motions": ("still",)}, {"one object"}),
        ({"max_objects": 3}, {"one object", "two objects", "counting", "motion", "withheld"}),
        ({"max_objects": 2, "copies": 0.0}, {"one object", "two objects", "motion", "withheld"}),
        ({"max_objects": 2, "copies": 1.0}, {"one object", "counting", "motion", "withheld"}),
        ({"min_objects": 2, "max_objects": 2, "relations": 0.5}, {"two objects", "relation"}),
        ({"texts": 0.1, "unsaid": 0.1}, {"one object", "motion", "text", "withheld", "unsaid"}),
    ],
)
def test_what_a_world_cannot_show_is_not_asked(knobs, suites):
    world = WorldConfig(num_clips=1, **knobs)
    assert set(benchmark_suites(world)) == suites
    assert {p.suite for p in benchmark_prompts(world, per_suite=2)} == suites


def test_a_suite_of_fewer_than_one_prompt_is_refused():
    with pytest.raises(ValueError, match="per_suite=0"):
        benchmark_prompts(RICH, per_suite=0)


def test_a_crowded_world_counts_to_its_most():
    world = WorldConfig(num_clips=1, max_objects=4)
    counts = [
        len(p.expected.objects)
        for p in benchmark_prompts(world, per_suite=40)
        if p.suite == "counting"
    ]
    assert Counter(counts) == dict.fromkeys((1, 2, 3, 4), 10)
    assert np.mean(counts) == 2.5
