"""The engine's arithmetic at its edges: broken gradients, limits, types, forward derivatives."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.video_models.transformer.tiny import VARIANTS, inputs_of, tiny
from tests.video_platform.training.numerics_ranks import POISONED
from tests.video_platform.training.sequence_ranks import loss_of, network
from tests.video_platform.training.test_engine import launch
from video_platform.training.blocks import recompute_blocks

SCENARIOS = (
    *("forward_mode", "poisoned", "clipped", "fine_steps", "wide"),
    *("given_back", "imported", "waits"),
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return launch(tmp_path_factory.mktemp("numerics"), 2, *SCENARIOS, script="numerics_ranks.py")


@pytest.mark.parametrize("setting", POISONED)
def test_a_broken_gradient_behind_a_finite_loss_changes_nothing(pair, setting):
    report = pair["poisoned"][setting]
    assert max(report["losses"]) < 1
    assert report["applied"] == [False, True]
    assert report["skipped"] == 1
    assert report["untouched"] and report["moved"] and report["finite"]


@pytest.mark.parametrize("stage", range(4))
def test_a_limit_that_follows_the_gradients_is_that_of_a_plain_loop(pair, stage):
    report = pair["clipped"]
    assert report["norm"] > 10 * report["limit"]
    assert report[f"stage {stage}"] < 1e-6


@pytest.mark.parametrize("stage", range(3))
def test_a_loss_with_a_forward_derivative_learns_the_same(pair, stage):
    report = pair["forward_mode"]
    assert report["change"] > 1
    assert report[f"stage {stage}"] < 5e-6


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_steps_that_bf16_cannot_tell_apart_add_up_in_the_masters(pair, stage):
    fp32, bf16 = pair["fine_steps"]["fp32"], pair["fine_steps"][f"bf16 {stage}"]
    assert bf16["moved"] == pytest.approx(fp32["moved"], rel=0.1)
    assert bf16["seen"] < 0.05 < fp32["seen"]
    assert bf16["rounded"]


@pytest.mark.parametrize("setting", [*(f"stage {s}" for s in range(4)), "stage 3 bf16"])
def test_weights_are_back_after_a_block_with_the_average_has_raised(pair, setting):
    report = pair["given_back"][setting]
    assert report["said"] == "no sample"
    assert report["averaged"] and report["back"] and report["same"]


@pytest.mark.parametrize("stage", range(4))
def test_gradients_of_all_blocks_are_measured_without_waiting_for_each(pair, stage):
    """There are 12 parameters; only the norms themselves are fetched, in one piece."""
    assert pair["waits"][f"stage {stage}"] <= 1


def test_a_new_worker_imports_nothing_large_that_it_does_not_use(pair):
    """Each would cost every restart seconds."""
    assert pair["imported"] == []


def test_modulation_is_computed_in_fp32_and_under_autocast_kept_in_it(pair):
    autocast, bf16 = pair["wide"]["autocast"], pair["wide"]["bf16"]
    assert autocast["query"] == bf16["query"] == "torch.bfloat16"
    assert autocast["norm"] == bf16["norm"] == "torch.float32"
    assert autocast["modulation"] == bf16["modulation"] == "torch.float32"
    assert autocast["same"] and not bf16["same"]
    assert [autocast["table"], bf16["table"]] == ["torch.float32", "torch.bfloat16"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_of_a_transformer_gets_a_gradient(variant):
    """ZeRO would let the others decay, and PyTorch would not."""
    model = tiny(**VARIANTS[variant])
    latents, t, rest = inputs_of(model)
    model(latents, t, **rest).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_recomputing_selectively_repeats_no_product():
    def work(**how):
        module = network()
        if how:
            recompute_blocks(module, **how)
        with FlopCounterMode(display=False) as counter:
            loss_of(module, 0).backward()
        return counter.get_total_flops()

    plain = work()
    whole = work(keeps="inputs")
    assert 1.15 * plain < whole < 1.34 * plain
    assert work(keeps="products") == plain
    assert work(keeps="inputs", every=2) == pytest.approx((plain + 2 * whole) / 3, rel=0.01)


def test_recomputing_selectively_keeps_large_products_of_onednn_too(monkeypatch):
    """They are not counted as FLOPs; the repetition may not call the operator."""
    calls = []
    monkeypatch.setattr("video_models.layers.linear.FEWEST_PRODUCTS", 0)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            calls.append(func)
            return func(*args, **(kwargs or {}))

    def count(keeps):
        calls.clear()
        module = network()
        recompute_blocks(module, keeps=keeps)
        with Watch():
            loss_of(module, 0).backward()
        return sum("_linear_pointwise" in str(op) for op in calls)

    assert 0 < count("products") < count("inputs")
