"""The world's configuration, and the combinations that it keeps back."""

import itertools

import numpy as np
import pytest

from video_platform.config import as_tree, load_recipe, to_yaml
from video_platform.errors import ConfigError
from video_platform.shapes.world import (
    BACKGROUNDS,
    PALETTE,
    WorldConfig,
    all_combinations,
    held_out_combinations,
    origin_of,
    trained_combinations,
)

BT709_LUMA = np.array([0.2126, 0.7152, 0.0722])


def test_colours_are_far_apart_and_stand_out_from_grey_in_brightness_too():
    grey = np.array(BACKGROUNDS["grey"])
    colours = [np.array(rgb) for rgb in PALETTE.values()]
    for first, second in itertools.combinations(colours, 2):
        assert np.linalg.norm(first - second) >= 255
    for colour in colours:
        assert np.linalg.norm(colour - grey) >= 179
        assert abs((colour - grey) @ BT709_LUMA) >= 41


@pytest.mark.parametrize("seed", range(5))
def test_held_out_combinations_leave_every_pair_in_training(seed):
    world = WorldConfig(num_clips=1, seed=seed)
    withheld, trained = held_out_combinations(world), trained_combinations(world)
    assert len(withheld) == round(0.12 * 90) == 11
    assert set(withheld) | set(trained) == set(all_combinations(world))
    assert not set(withheld) & set(trained)
    for i, j in itertools.combinations(range(3), 2):
        every_pair = {(c[i], c[j]) for c in all_combinations(world)}
        assert {(c[i], c[j]) for c in trained} == every_pair


def test_held_out_combinations_follow_from_the_seed_and_are_spread():
    world = WorldConfig(num_clips=1)
    assert held_out_combinations(world) == held_out_combinations(WorldConfig(num_clips=99))
    assert held_out_combinations(world) != held_out_combinations(WorldConfig(num_clips=1, seed=1))
    for field in range(3):
        assert len({c[field] for c in held_out_combinations(world)}) >= 3


def test_a_world_with_one_motion_withholds_nothing_rather_than_a_whole_pair():
    world = WorldConfig(num_clips=1, motions=("still",), held_out=0.5)
    assert held_out_combinations(world) == ()


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("num_clips", 0, "num_clips"),
        ("size", 33, "even"),
        ("colours", ("red", "mauve"), "blue, cyan"),
        ("shapes", (), "circle, cross"),
        ("motions", ("left", "left"), "each once"),
        ("background", "plaid", "grey"),
        ("max_objects", 5, "<= 4"),
        ("held_out", 0.9, "0 to 0.5"),
        ("radius", (0.2, 0.4), "lower radius or travel"),
        ("travel", (0.3, 0.2), "smallest <= largest"),
    ],
)
def test_a_bad_value_is_refused_and_says_what_is_allowed(field, value, hint):
    with pytest.raises(ValueError, match=hint):
        WorldConfig(**{"num_clips": 1, field: value})


def test_a_world_is_a_recipe(tmp_path):
    world = WorldConfig(num_clips=7, shapes=("circle", "cross"), radius=(0.1, 0.2))
    recipe = tmp_path / "world.yaml"
    recipe.write_text(to_yaml(world))
    assert load_recipe(WorldConfig, recipe) == world
    assert load_recipe(WorldConfig, recipe, ["seed=3"]).seed == 3
    with pytest.raises(ConfigError, match="size"):
        load_recipe(WorldConfig, recipe, ["size=31"])
    assert as_tree(world)["shapes"] == ["circle", "cross"]


RICH = WorldConfig(num_clips=4096, max_objects=2, copies=0.25, relations=0.3, unsaid=0.2, texts=0.2)


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("relations", 1.5, "relations"),
        ("unsaid", -0.1, "unsaid"),
        ("texts", 2, "texts"),
        ("letters", "LA", "B, F, J, L"),
        ("letters", "LL", "each once"),
        ("letters", "", "each once"),
        ("max_letters", 5, "1 to 4"),
    ],
)
def test_a_bad_knob_of_the_rich_world_is_refused(field, value, hint):
    with pytest.raises(ValueError, match=hint):
        WorldConfig(**{"num_clips": 1, field: value})


def test_letters_without_room_are_refused():
    with pytest.raises(ValueError, match="lower max_letters"):
        WorldConfig(num_clips=1, size=24, texts=0.1)
    with pytest.raises(ValueError, match="add still, up or down"):
        WorldConfig(num_clips=1, motions=("left", "right"), texts=0.1)
    assert WorldConfig(num_clips=1, size=24, texts=0.1, max_letters=2).texts == 0.1


def test_the_origin_of_a_world_names_later_knobs_only_where_they_are_turned():
    assert "texts" not in origin_of(WorldConfig(num_clips=1))
    assert origin_of(RICH)["texts"] == 0.2
    assert "letters" not in origin_of(RICH)
