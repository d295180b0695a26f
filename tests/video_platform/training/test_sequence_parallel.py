"""Two ranks that share every clip compute and learn what one does."""

import pytest

from tests.video_platform.training.test_engine import launch
from video_platform.training.sequence_parallel import data_place

SCENARIOS = ("forward", "inputs", "training", "refusals")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return launch(tmp_path_factory.mktemp("sequence"), 2, *SCENARIOS, script="sequence_ranks.py")


@pytest.mark.parametrize("kind", ["plain", "factorised", "windowed", "block", "joint"])
def test_outputs_and_gradients_are_those_of_one_rank(pair, kind):
    found = pair["forward"][kind]
    assert found["output"] < 2e-6
    assert found["gradient"] < 1e-6 * max(1.0, found["size"])
    assert found["size"] > 1e-3


@pytest.mark.parametrize("kind", ["plain", "joint"])
def test_times_of_their_own_for_tokens_are_split_too(pair, kind):
    assert pair["forward"][kind]["per token"] < 2e-6


@pytest.mark.parametrize("kind", ["plain", "joint"])
def test_packed_samples_may_be_cut_anywhere(pair, kind):
    assert pair["forward"][kind]["packed"] < 2e-6


def test_gradients_at_the_input_and_tokens_after_blocks_are_whole(pair):
    assert pair["inputs"]["gap"] < 2e-6
    assert pair["inputs"]["size"] > 1e-4


@pytest.mark.parametrize("stage", range(4))
def test_training_at_every_stage_is_the_plain_loop(pair, stage):
    assert pair["training"][f"stage {stage}"] < 2e-5
    assert pair["training"]["moved"] > 1e-3


def test_what_cannot_be_split_is_named(pair):
    said = pair["refusals"]
    assert "3 heads do not divide among sequence_parallel=2 ranks" in said["heads"]
    assert "3 workers do not divide into groups of sequence_parallel=2" in said["ranks"]


def test_ranks_of_a_group_read_the_same_samples():
    places = [data_place(rank, 4, 2) for rank in range(4)]
    assert [(p.rank, p.world, p.copies) for p in places] == [
        (0, 2, 2), (0, 2, 2), (1, 2, 2), (1, 2, 2)
    ]  # fmt: skip
