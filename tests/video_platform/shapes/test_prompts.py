"""Evaluation prompts."""

import pytest

from video_platform.shapes.captions import caption
from video_platform.shapes.prompts import evaluation_prompts
from video_platform.shapes.world import WorldConfig, held_out_combinations, trained_combinations

SMALL = WorldConfig(num_clips=1)


def test_half_the_prompts_are_withheld_and_each_half_covers_its_combinations():
    prompts = evaluation_prompts(SMALL, 64, 0)
    trained = [p for p in prompts if not p.held_out]
    withheld = [p for p in prompts if p.held_out]
    assert len(trained) == len(withheld) == 32
    assert len({p.expected for p in trained}) == 32
    assert {p.expected[0] for p in trained} <= set(trained_combinations(SMALL))
    assert {p.expected[0] for p in withheld} == set(held_out_combinations(SMALL))


def test_a_prompt_is_the_plain_caption_of_what_it_expects():
    for prompt in evaluation_prompts(SMALL, 32, 3):
        assert prompt.text == caption(prompt.expected)


def test_prompts_follow_from_the_seed():
    assert evaluation_prompts(SMALL, 20, 4) == evaluation_prompts(SMALL, 20, 4)
    assert evaluation_prompts(SMALL, 20, 4) != evaluation_prompts(SMALL, 20, 5)


def test_a_world_that_withholds_nothing_gives_trained_prompts_alone():
    prompts = evaluation_prompts(WorldConfig(num_clips=1, held_out=0), 10, 0)
    assert [p.held_out for p in prompts] == [False] * 10


def test_a_crowded_world_asks_for_several_objects():
    prompts = evaluation_prompts(WorldConfig(num_clips=1, max_objects=3), 60, 0)
    assert {len(p.expected) for p in prompts} == {1, 2, 3}


def test_a_count_below_one_is_refused():
    with pytest.raises(ValueError, match="count"):
        evaluation_prompts(SMALL, 0, 0)
