"""The engine's modes change memory and speed, and not what a transformer learns in 20 steps.

pytest -m slow tests/video_platform/training/test_modes.py      # compiled blocks
"""

import pytest

from tests.video_platform.training.modes_ranks import MODES, STAGES
from tests.video_platform.training.test_engine import launch

EXACT = (*STAGES, *MODES)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modes")
    return launch(folder, 2, "mixed", "exact", "averages", script="modes_ranks.py")


@pytest.mark.parametrize("mode", [*EXACT, "radam"])
def test_a_mode_learns_what_a_plain_loop_learns(pair, mode):
    report = pair["exact"]
    assert report[mode]["gap"] < 1e-6 < 1e-4 < report["moved"]


@pytest.mark.parametrize("mode", EXACT)
def test_losses_are_those_of_the_plain_loop(pair, mode):
    assert pair["exact"][mode]["losses"] < 1e-6


@pytest.mark.parametrize("mode", EXACT)
def test_gradient_norms_by_block_are_those_of_the_whole_gradient(pair, mode):
    report = pair["exact"]
    found, expected = report[mode]["norms"], report["plain norms"]
    assert list(found) == ["blocks.0", "blocks.1", "blocks.2", "other"]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mode", ["bf16", "autocast 0", "autocast 3"])
def test_bf16_arithmetic_learns_too_on_fine_masters(pair, mode):
    report, plain = pair["mixed"][mode], pair["mixed"]["losses"]
    assert report["losses"] == pytest.approx(plain, rel=0.05)
    assert report["gap"] > 0
    assert report["fine"] > 1e-5
    assert report["types"] == ["torch.bfloat16" if mode == "bf16" else "torch.float32"]


def test_several_averages_follow_their_own_decays(pair):
    report = pair["averages"]
    assert report["kinds"][-3:] == ["ema", "ema-0.5", "ema-width-0.1"]
    assert max(report["gaps"].values()) < 1e-6
    assert report["apart"] > 1e-4


@pytest.mark.slow
def test_compiled_blocks_learn_the_same(tmp_path):
    report = launch(tmp_path, 2, "compiled", script="modes_ranks.py")["compiled"]
    assert max(report.values()) < 1e-5
