"""The loop on real ranks: what is not finite, who is slow, where time goes."""

import pytest

from tests.video_platform.training.test_engine import launch

SCENARIOS = ("rewinds", "rewind_then_stop", "diverges", "straggler", "account", "full", "parts")
STAGES = ("stage 0", "stage 1", "stage 2", "stage 3", "stage 2 bf16")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two ranks report."""
    return launch(tmp_path_factory.mktemp("loop"), 2, *SCENARIOS, script="loop_ranks.py")


@pytest.mark.parametrize(
    "case",
    [f"latent, {stage}" for stage in STAGES]
    + [f"{how}, {stage}" for how in ("gradient", "loss") for stage in ("stage 0", "stage 1")],
)
def test_three_bad_batches_in_a_row_are_left_out_as_if_they_had_never_been(pair, case):
    report = pair["rewinds"][case]
    assert report["same"]
    assert report["outcome"] == [9, 1, 3]
    assert report["finite"], "what was skipped is in no average"
    assert report["steps"] == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9]
    *skips, back = (line for line in report["log"] if "not finite" in line)
    assert len(skips) == 3
    assert back.endswith("up to step 6: back to step 3, and on with the batches that follow")


def test_the_samples_of_the_rank_whose_loss_is_not_finite_are_named(pair):
    lines = pair["rewinds"]["latent, stage 2"]["log"]
    (line,) = (line for line in lines if line.startswith("step 4: the loss or gradient of net"))
    assert "nothing was updated; samples of rank 1: point-" in line
    assert "rank 0" not in line and line.count("point-") == 4
    lines = pair["rewinds"]["gradient, stage 1"]["log"]
    (line,) = (line for line in lines if line.startswith("step 4: the loss or gradient of net"))
    assert "samples of rank 0: point-" in line and "samples of rank 1: point-" in line


def test_a_run_that_went_back_and_was_stopped_goes_on_as_if_it_had_not_been(pair):
    report = pair["rewind_then_stop"]
    assert report["same"]
    assert report["steps"] == [6, 6, 9]
    assert report["counts"] == [1, 1, 3]


def test_a_full_disk_of_one_rank_ends_the_run_on_all_before_the_next_save(pair):
    (said, reached), other = pair["full"]["told"]
    assert [said, reached] == other
    assert "the checkpoint of step 20 could not be written" in said
    assert "files of this size are not allowed here" in said
    assert 20 <= reached < 29
    assert pair["full"]["newest"] == 10


def test_what_stays_bad_ends_the_run_on_all_ranks_alike(pair):
    one, two = pair["diverges"]
    assert one == two
    assert "the loss or gradient of 3 steps was not finite, after 2 rewinds" in one
    assert "look at the samples named in the log" in one


def test_a_straggler_is_named_by_rank_and_host(pair):
    lines = pair["straggler"]["log"]
    assert any(line.startswith("step 3: rank 1 on ") for line in lines)
    assert all(" is a straggler: " in line for line in lines)
    told = pair["straggler"]["told"][2]
    assert told["ranks/stragglers"] == told["ranks/slowest"] == 1
    assert told["ranks/slowest_over_fastest"] > 3


def test_phases_add_up_to_the_wall_time_and_travel_in_the_checkpoint(pair):
    report = pair["account"]
    assert sum(report["seconds"].values()) == pytest.approx(report["wall_s"], rel=0.05, abs=0.05)
    assert report["saved"]["rests"]
    saved = report["saved"]["seconds"]
    assert 0 < saved["step"] <= report["seconds"]["step"]
    shares = {n: v for n, v in report["told"][0].items() if n.startswith("goodput/")}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["goodput/step"] > 0


def test_totals_over_some_samples_are_divided_by_their_number(pair):
    assert pair["parts"] == [{"a": 2.0, "b": None}] * 2
