"""What a training step tells, and how a run remembers it."""

import json

import numpy as np
import pytest
import torch

from jobs.curves import draw, pictures
from jobs.denoising import block_norms, losses_by_time
from jobs.history import MOST_POINTS, History
from jobs.meter import Meter, measured_tflops
from jobs.sample_grid import MOST_COLUMNS, SampleGrid
from tests.tiny import make_transformer


def test_losses_are_sorted_into_equal_parts_of_the_time():
    t = torch.tensor([0.0, 0.24, 0.25, 0.6, 0.99, 1.0])
    sums, counts = losses_by_time(torch.arange(6.0), t, 4)
    assert {name: total.item() for name, total in sums.items()} == {
        "loss_by_time/0.00-0.25": 1.0,
        "loss_by_time/0.25-0.50": 2.0,
        "loss_by_time/0.50-0.75": 3.0,
        "loss_by_time/0.75-1.00": 9.0,
    }
    assert [count.item() for count in counts.values()] == [2, 1, 1, 2]
    assert losses_by_time(torch.ones(1), torch.ones(1), 0) == ({}, {})


def test_norms_that_all_ranks_know_add_up_to_their_mean():
    totals, counts = block_norms({"blocks.0": 6.0}, world=3)
    name = "grad_norm_by_block/blocks.0"
    assert (3 * totals[name] / (3 * counts[name])).item() == pytest.approx(6.0)


def test_rates_leave_out_the_time_that_is_not_training():
    meter = Meter(make_transformer().config, world=2, peak_tflops=5.0)
    scalars = {"batch/clips": 4.0, "batch/tokens": 100.0, "batch/tflop": 2.0, "steps_per_s": 0.5}
    rates = meter.rates(scalars | {"time/step": 0.4, "time/data": 0.1, "time/hooks": 0.5})
    assert rates["throughput/tokens_per_s"] == pytest.approx(100.0)
    assert rates["throughput/tflop_per_s"] == pytest.approx(2.0)
    assert rates["throughput/utilisation"] == pytest.approx(0.2)
    assert meter.rates({"validation/loss": 1.0}) == {}


def test_a_device_is_measured():
    assert 0.001 < measured_tflops(torch.device("cpu"), torch.float32, repeats=1) < 100


def test_a_history_stays_small_and_keeps_its_ends():
    history = History()
    for step in range(3 * MOST_POINTS):
        history.note(step, {"loss": step / 2, "steps_per_s": 1.0, "transformer/grad_norm": np.inf})
    [(name, curve)] = history.curves.items()
    assert name == "loss"
    assert len(curve) <= MOST_POINTS
    assert curve[0] == (0, 0.0)
    assert curve[-1] == (3 * MOST_POINTS - 1, (3 * MOST_POINTS - 1) / 2)
    again = History()
    again.load_state_dict(json.loads(json.dumps(history.state_dict())))
    assert again.curves == history.curves


def test_a_grid_keeps_the_first_and_the_last_step_and_even_gaps():
    grid = SampleGrid()
    for step in range(100, 3300, 100):
        grid.add(step, [np.full((3, 16, 16, 3), step % 256, dtype=np.uint8)])
    steps = [int(step) for step in grid.state_dict()]
    assert len(steps) == MOST_COLUMNS
    assert (steps[0], steps[-1]) == (100, 3200)
    assert max(np.diff(steps)) <= 2 * 3100 / (MOST_COLUMNS - 1)
    again = SampleGrid(json.loads(json.dumps(grid.state_dict())))
    assert again.draw(["a grey square"]) == grid.draw(["a grey square"])


def test_curves_have_a_panel_for_what_was_measured_in_the_order_of_the_blocks():
    norms = {f"grad_norm_by_block/blocks.{i}": [(1, 0.1), (2, 0.2)] for i in (10, 9, 0)}
    figure = draw({"loss": [(1, 2.0), (2, 1.0)], **norms})
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["loss", "gradient norm by block"]
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["blocks.0", "blocks.9", "blocks.10"]
    assert pictures(History()) == {}
