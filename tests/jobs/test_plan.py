"""What a plan says: counts that PyTorch counts, memory that training takes, the setting to take."""

import json
from pathlib import Path

import pytest
import torch

from jobs.cli import main
from jobs.plan import run
from jobs.plan_search import Setting, worthwhile
from jobs.pretrain_config import LoraConfig
from jobs.recipe import Recipe
from tests.benchmarks.plan_memory import (
    JOINT,
    TINY,
    WIDE,
    case,
    cases,
    count,
    forecast,
    in_processes,
)
from video_models.presets import TRANSFORMERS
from video_models.transformer.costs import transformer_costs
from video_platform.config import load_recipe
from video_platform.errors import ConfigError

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
WAN = (
    "distill=null", "autoencoder.training=null", "autoencoder.preset=wan-2.1",
    "pixels={frames: 81, height: 480, width: 832, fps: 16.0}", "model.preset=wan-2.1-14b",
    "text={max_tokens: 512}", "pretrain.training.precision=bf16",
    "pretrain.training.zero_stage=1", "pretrain.training.batch_size=64",
    "pretrain.training.micro_batch_size=1", "pretrain.training.optimizer=adamw",
    "pretrain.training.steps=1000", "cache=null",
)  # fmt: skip


def plan_of(*overrides):
    return run(load_recipe(Recipe, RECIPES / "shapes-demo.yaml", overrides), as_json=True)


def printed(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_memory_is_what_training_takes_within_a_tenth():
    again, adapters = {"activation_checkpointing": True}, {"train": LoraConfig(rank=4)}
    settings = [
        case(config=TINY),
        case(config=WIDE, **again, optimizer="muon", micro=1),
        case(config=TINY, **adapters),
        case(config=JOINT, **again, micro=1),
    ]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():  # else it takes minutes
        settings.append(case(config=TINY, **again, precision="bf16"))
    for setting, taken in zip(settings, in_processes(count, settings), strict=True):
        assert forecast(setting) == pytest.approx(taken, rel=0.1), str(setting)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_memory_of_every_setting_is_what_training_takes_within_a_tenth(ranks):
    """Run as `pytest -m slow tests/jobs/test_plan.py`, minutes."""
    settings = cases(ranks)
    for setting, taken in zip(settings, in_processes(count, settings), strict=True):
        assert forecast(setting) == pytest.approx(taken, rel=0.1), str(setting)


def test_counts_of_a_plan_are_those_of_the_formulas(capsys):
    plan_of(*WAN, "plan.gpus=64")
    [tree] = printed(capsys)
    # As a preset's ends follow the recipe: its text encoder gives 64 numbers a word.
    assert tree["parameters"] == 14_288_491_584 - 5120 * (4096 - 64)
    [shape] = tree["shapes"]
    assert (shape["size"], shape["tokens"], shape["micro_batches"]) == ([21, 60, 104], 32760, 1)
    config = TRANSFORMERS["wan-2.1-14b"]
    costs = transformer_costs(config, (21, 60, 104), text_tokens=512)
    assert tree["tokens_per_step"] == 64 * 32760
    assert tree["flops_per_step"] == pytest.approx(64 * costs.training.total, rel=1e-3)


def test_the_fastest_setting_that_fits_is_taken(capsys):
    [plan] = plan_of(*WAN, "plan.gpus=64")
    capsys.readouterr()
    chosen = plan.chosen
    assert chosen.fits
    assert chosen.step_s <= 1.02 * min(each.step_s for each in plan.found if each.fits)
    assert chosen.setting.recomputed != "nothing", "activations of 32,760 tokens fit no device"
    [roomy] = plan_of(*WAN, "plan.gpus=64", "plan.memory_gb=2000")
    assert roomy.chosen.setting.recomputed == "nothing"
    assert roomy.chosen.step_s < chosen.step_s


def test_small_models_take_the_plainest_setting(capsys):
    for plan in plan_of("plan.kind=cpu", "plan.gpus=2"):
        assert plan.chosen.setting == Setting()
    runs = [tree["run"] for tree in printed(capsys)]
    assert runs == ["train-autoencoder", "pretrain", "distill guidance", "distill progressive"]


def test_settings_that_are_slower_and_need_more_are_left_out(capsys):
    [plan] = plan_of(*WAN, "plan.gpus=8")
    kept = worthwhile(plan.found)
    sizes = [each.memory.device.total for each in kept]
    assert sizes == sorted(sizes, reverse=True)
    assert 1 < len(kept) < len(plan.found)
    parts = {each.setting.sequence_parallel for each in plan.found}
    assert parts == {1, 2, 4, 8}


def test_a_sample_shared_by_devices_takes_a_part_of_the_activations(capsys):
    [plan] = plan_of(*WAN, "plan.gpus=8")

    def activations(parts):
        wanted = Setting(sequence_parallel=parts, zero_stage=3)
        [found] = [each for each in plan.found if each.setting == wanted]
        return found.memory.device.activations

    assert activations(1) / activations(8) == pytest.approx(8, rel=0.1)


def test_money_is_hours_times_devices_times_price(capsys):
    [plan] = plan_of(*WAN, "plan.gpus=16", "plan.price_per_hour=3", "plan.kind=h200")
    hours = plan.hours(plan.chosen)
    assert hours == pytest.approx(plan.chosen.step_s * 1000 / 3600)
    assert plan.money(plan.chosen) == pytest.approx(hours * 16 * 3)
    [slower] = plan_of(*WAN, "plan.gpus=16", "plan.kind=h200", "plan.utilisation=0.2")
    assert slower.chosen.compute_s == pytest.approx(2 * plan.chosen.compute_s)


def test_distillation_holds_its_teacher_and_asks_it(capsys):
    _, pretrain, guidance, progressive = plan_of("plan.kind=cpu", "plan.gpus=1")
    parameters = pretrain.subject.parameters
    weights = [each.chosen.memory.device.weights for each in (pretrain, guidance)]
    assert weights == [4 * parameters, 8 * parameters]
    forward = pretrain.per_step("forward")
    assert guidance.per_step("total") == pytest.approx(pretrain.per_step("total") + 2 * forward)
    assert progressive.per_step("total") == pytest.approx(pretrain.per_step("total") + 4 * forward)
    assert progressive.subject.steps == 3 * 60


def test_tables_say_what_to_take_and_what_is_assumed(capsys):
    argv = ["plan", str(RECIPES / "shapes-demo.yaml"), "--gpus", "8", "--kind", "a100", *WAN]
    assert main(argv) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "pretrain on 8 x a100" in told
    assert "Assumed of each a100: 80 GB" in told
    assert "Take zero_stage=" in told


def test_nothing_that_fits_is_said_with_the_least_that_would(capsys):
    argv = ["plan", str(RECIPES / "shapes-demo.yaml"), "--gpus", "1", "--kind", "rtx-4090", *WAN]
    assert main(argv) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Nothing fits: the least that a device needs is" in told


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--kind", "h300"], "unknown kind 'h300'; known: a100, a100-40g, b200, cpu, h100"),
        (["--gpus", "0"], "gpus is 0; it must be at least 1"),
        (["--utilisation", "1.5"], "utilisation is 1.5; it must be in (0, 1]"),
        (["distill=null", "pretrain=null", "autoencoder.training=null"], "trains nothing"),
        (["plan.memory_gb=0"], "memory_gb is 0.0; it must be above 0"),
    ],
)
def test_what_cannot_be_planned_is_one_clear_line(argv, words, capsys):
    assert main(["plan", str(RECIPES / "shapes-demo.yaml"), *argv]) == 2
    assert words in capsys.readouterr().err


def test_a_recipe_whose_clips_do_not_fit_the_autoencoder_is_refused():
    with pytest.raises(ConfigError, match="pixels: a clip of 80 frames does not fit"):
        plan_of(*WAN, "pixels.frames=80")
