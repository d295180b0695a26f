"""Recipes: what is read, what is refused, and in which words."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import pytest

from video_platform.config import as_tree, load_recipe, pick, to_yaml
from video_platform.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimiser:
    rate: float = 1e-3
    steps: int = 10
    kind: Literal["adam", "sgd"] = "adam"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps is at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    sizes: tuple[int, ...] = (1, 2)
    optimiser: Optimiser = Optimiser()
    second: Optimiser | None = None
    on: bool = True
    several: tuple[Optimiser, ...] = ()
    named: Mapping[str, Optimiser] = dataclasses.field(default_factory=dict)


def load(tmp_path, text, *overrides):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return load_recipe(Recipe, path, overrides)


def test_values_sections_and_overrides_arrive_typed(tmp_path):
    recipe = load(
        tmp_path,
        "name: off\nsizes: [4, 8]\noptimiser: {rate: 1e-4}\n",
        "optimiser.steps=3",
        "second.kind=sgd",
    )
    assert recipe == Recipe(
        name="off",
        sizes=(4, 8),
        optimiser=Optimiser(rate=1e-4, steps=3),
        second=Optimiser(kind="sgd"),
    )


def test_a_recipe_survives_being_printed(tmp_path):
    recipe = load(tmp_path, "name: x\nsecond: {rate: 3e-05}\n")
    assert load(tmp_path, to_yaml(recipe)) == recipe
    assert as_tree(recipe)["second"]["rate"] == 3e-05


def test_sections_stand_in_lists_and_under_names(tmp_path):
    recipe = load(tmp_path, "name: x\nseveral: [{steps: 2}, {}]\nnamed: {fast: {steps: 3}}")
    assert recipe.several == (Optimiser(steps=2), Optimiser())
    assert recipe.named == {"fast": Optimiser(steps=3)}
    assert load(tmp_path, to_yaml(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("nam: x", [], "unknown key 'nam'; did you mean 'name'"),
        (
            "name: x\noptimiser: {rat: 1}",
            [],
            "unknown key 'optimiser.rat'; did you mean 'optimiser.rate'",
        ),
        ("name: x\nseveral: [{}, {rat: 1}]", [], "did you mean 'several.1.rate'"),
        ("name: x\nnamed: {fast: {rat: 1}}", [], "did you mean 'named.fast.rate'"),
        ("name: x\nnamed: {fast: {steps: 0}}", [], "named.fast: steps is at least 1"),
        ("name: x", ["second.stps=3"], "did you mean 'second.steps'"),
        ("name: x\nzzz: 1", [], "known here: name, sizes"),
        ("sizes: [1]", [], "name is missing"),
        ("name: x", ["optimiser.steps=two"], "optimiser.steps = 'two'"),
        ("name: x", ["optimiser.steps=0"], "steps is at least 1"),
        ("name: x", ["optimiser.steps=1.5"], "optimiser.steps = 1.5"),
        ("name: x", ["optimiser.kind=adm"], "'adam' or 'sgd'"),
        ("name: x\non: 1", [], "on = 1"),
        ("name: 3", [], "name = 3"),
        ("name: x", ["steps"], "section.key=value"),
        ("name: x", ["name.first=1"], "is a value, not a section"),
        ("[1, 2]", [], "a recipe is a mapping"),
        ("name: [", [], "is not YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, text, overrides, words):
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        load(tmp_path, text, *overrides)
    assert words in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="there is no recipe file"):
        load_recipe(Recipe, tmp_path / "none.yaml")


def test_pick_lists_what_is_known():
    assert pick({"a": 1}, "a", "letter") == 1
    with pytest.raises(ConfigError, match="unknown letter 'c'; known: a, b"):
        pick({"b": 1, "a": 2}, "c", "letter")
