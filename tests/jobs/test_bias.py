"""A model that always shows the same is far from training; one that shows all alike is not."""

import numpy as np
import pytest

from jobs.bias import biases, total_variation
from jobs.evaluation_records import JudgedClip

COLOURS = ("red", "green", "blue", "yellow")
LAWS = {question: {"colour": dict.fromkeys(COLOURS, 0.25)} for question in range(20)}


def clips(answer, *, seeds=8, contender="m"):
    return [
        JudgedClip(
            contender=contender,
            question=question,
            prompt=f"p{question}",
            split="unsaid",
            seed=seed,
            file="",
            answers={"colour": answer(question, seed), "shape": "circle"},
        )
        for question in range(20)
        for seed in range(seeds)
    ]


def bias(answer, **options):
    (found,) = biases(clips(answer, **options), LAWS, level=0.95, resamples=500)
    return found


def test_the_total_variation_is_the_share_that_would_have_to_change():
    assert total_variation(np.array([3.0, 1.0]), np.array([1.0, 1.0])) == pytest.approx(0.25)
    assert total_variation(np.array([1.0, 0.0]), np.array([0.0, 9.0])) == 1
    assert total_variation(np.array([2.0, 2.0]), np.array([1.0, 1.0])) == 0


def test_a_model_that_always_shows_one_colour_is_as_far_as_can_be():
    found = bias(lambda question, seed: "red")
    assert (found.distance.value, found.distance.low, found.distance.high) == (0.75, 0.75, 0.75)
    assert found.shown["red"] == 1
    assert found.trained == dict.fromkeys(sorted(COLOURS), 0.25)


def test_a_model_that_shows_what_training_showed_is_no_further_than_chance():
    rng = np.random.default_rng(3)
    found = bias(lambda question, seed: str(rng.choice(COLOURS)))
    assert found.distance.value < 2 * found.by_chance < 0.2
    assert bias(lambda question, seed: COLOURS[seed % 4]).distance.value == 0


def test_what_chance_does_shrinks_with_the_root_of_the_clips():
    few = bias(lambda question, seed: "red", seeds=4).by_chance
    many = bias(lambda question, seed: "red", seeds=64).by_chance
    assert few / many == pytest.approx(4, rel=0.15)


def test_what_cannot_be_read_is_an_answer_that_training_never_shows():
    found = bias(lambda question, seed: "unknown")
    assert found.distance.value == 1
    assert found.shown["unknown"] == 1
    assert found.trained["unknown"] == 0


def test_a_prompt_that_says_more_changes_what_is_expected():
    laws = {
        question: {"colour": {"red": 1.0} if question < 10 else {"blue": 1.0}}
        for question in range(20)
    }
    right = clips(lambda question, seed: "red" if question < 10 else "blue")
    (found,) = biases(right, laws, level=0.95, resamples=50)
    assert (found.distance.value, found.by_chance) == (0, 0)


def test_attributes_that_the_prompt_names_are_not_looked_at():
    found = biases(clips(lambda q, s: "red"), {0: LAWS[0]}, level=0.95, resamples=50)
    assert [(each.attribute, each.clips) for each in found] == [("colour", 8)]


def test_contenders_are_told_apart():
    both = clips(lambda q, s: "red") + clips(lambda q, s: COLOURS[s % 4], contender="n")
    found = {b.contender: b.distance.value for b in biases(both, LAWS, level=0.95, resamples=50)}
    assert found == {"m": 0.75, "n": 0}
