"""The engine and the loop on real ranks: every ZeRO stage equals plain PyTorch, and resumes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCENARIOS = ("stages", "resume", "skips", "ragged", "sigterm")
FP32 = ("stage 0", "stage 1", "stage 2", "stage 3", "stage 2 offloaded", "recomputed")
MUON = ("muon 0", "muon 1", "muon 2", "muon 3")
BF16 = ("stage 1 bf16", "stage 2 bf16", "stage 3 bf16")


def launch(folder, world, *scenarios, script="ranks.py"):
    """Run scenarios on `world` gloo ranks of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = os.environ | {
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}",
    }
    command = [sys.executable, str(Path(__file__).parent / script), str(folder), *scenarios]
    ranks = [
        subprocess.Popen(
            command,
            env=base | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        said = [rank.communicate(timeout=400)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * world, "\n".join(said)
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in scenarios}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def pair(folder):
    """What two ranks report."""
    return launch(folder, 2, *SCENARIOS)


@pytest.mark.parametrize("setting", FP32 + MUON)
def test_every_stage_equals_a_plain_pytorch_loop(pair, setting):
    report = pair["stages"][setting]
    assert report["weights"] < 1e-6
    assert report["average"] < 1e-6
    assert report["losses"] == pytest.approx(report["plain losses"], abs=1e-6)


@pytest.mark.parametrize("setting", BF16)
def test_bf16_stays_near_fp32(pair, setting):
    report = pair["stages"][setting]
    assert 0 < report["weights"] < 2e-2


def test_buffers_are_part_of_the_weights(pair):
    assert pair["stages"]["stage 3"]["buffer"] == [0.25] * 5


@pytest.mark.parametrize("setting", ("stage 0", "stage 1", "stage 2", "stage 3", *BF16, *MUON))
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(pair, setting):
    report = pair["resume"][setting]
    assert report["same"]
    assert report["state"] == 5


@pytest.mark.parametrize("setting", ("stage 0", "stage 1", "stage 2", "stage 3", *BF16, *MUON))
def test_a_wish_to_stop_on_one_rank_stops_all_at_one_step(pair, setting):
    report = pair["resume"][setting]
    assert report["stopped"] == [5, False]
    assert report["ended"] == [5, 8, True]


@pytest.mark.parametrize("optimizer", ("stage", "muon"))
def test_a_run_goes_on_at_another_stage(pair, optimizer):
    report = pair["resume"]
    assert_same_run(report[f"{optimizer} 1 to 3"], report[f"{optimizer} 1 to 1"])


def test_one_rank_goes_on_where_two_stopped_with_the_same_samples(folder, pair):
    assert_same_run(launch(folder, 1, "alone")["alone"], pair["resume"]["stage 1 to 1"])


def assert_same_run(report, reference):
    assert report["started_at"] == reference["started_at"] == 8
    assert report["positions"] == reference["positions"]
    for name, values in reference["weights"].items():
        assert report["weights"][name] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("stage", range(4))
def test_a_gradient_that_is_not_finite_moves_nothing_and_too_many_end_the_run(pair, stage):
    report = pair["skips"][f"stage {stage}"]
    assert report["untouched"] and report["moved"] and report["finite"]
    assert "the loss or gradient of 2 steps was not finite, after 0 rewinds" in report["message"]


@pytest.mark.parametrize("stage", range(4))
def test_ragged_micro_batches_weigh_by_their_share(pair, stage):
    assert pair["ragged"][f"stage {stage}"] < 1e-6


@pytest.mark.parametrize("stage", range(4))
def test_ranks_share_batches_that_do_not_divide_and_one_goes_along_with_nothing(pair, stage):
    assert max(pair["ragged"][f"stage {stage} uneven"]) < 1e-6


def test_sigterm_on_one_rank_saves_and_stops_all(pair):
    report = pair["sigterm"]
    assert report["step"] == report["saved"] == 4
    assert report["hooked"] == [3]


def test_reports_hold_loss_rate_norm_and_the_use_of_time(pair):
    done, scalars = pair["sigterm"]["logged"][0]
    assert done == 2
    assert scalars.keys() >= {
        "loss", "net/grad_norm", "net/learning_rate", "net/skipped_steps",
        "samples_per_s", "time/data", "time/step",
    }  # fmt: skip
    assert pair["sigterm"]["logged"][1] == [3, {"validation/loss": 1.0}]
