"""What a rank holds: less with every stage, and what is offloaded lies in the machine."""

import dataclasses
import itertools

import pytest
import torch

from video_platform.training.config import TrainingConfig
from video_platform.training.memory import Held, rank_memory
from video_platform.training.optimizers import ELEMENTS_AT_ONCE, orthogonalise
from video_platform.training.peak import PeakMemory, without_numbers

N = 10**9
HELD = Held(trained=N, activations=8 * N, last_activations=N, largest=10**7)


def needs(*, world=8, micro_batches=2, held=HELD, **knobs):
    sizes = {"steps": 1, "batch_size": 64, "micro_batch_size": 1}
    config = TrainingConfig(**{**sizes, **knobs})
    return rank_memory(config, held, world=world, micro_batches=micro_batches)


def test_bf16_with_one_average_takes_eighteen_bytes_a_parameter_and_what_moves():
    backward = needs(world=1, zero_stage=1, precision="bf16").backward.device
    standing = (backward.weights, backward.masters, backward.moments, backward.averages)
    assert standing == (2 * N, 4 * N, 8 * N, 4 * N)
    assert backward.gradients == 2 * N
    assert backward.activations == 8 * N
    assert backward.buckets == 2 * 50_000_000


def test_each_stage_shares_out_more():
    totals = [needs(zero_stage=stage).device for stage in (0, 1, 2)]
    assert totals[0].moments == 8 * totals[1].moments
    assert totals[1].gradients == 8 * totals[2].gradients
    assert all(a.total > b.total for a, b in itertools.pairwise(totals))
    many = needs(zero_stage=3, world=512, held=Held(trained=10 * N)).device
    assert (
        many.weights
        < 5 * N
        < needs(zero_stage=2, world=512, held=Held(trained=10 * N)).device.weights
    )


def test_what_is_offloaded_lies_in_the_machine():
    here, there = needs(zero_stage=2), needs(zero_stage=2, offload_optimizer="cpu")
    assert (here.host.total, there.device.moments) == (0, 0)
    assert there.host.moments == here.device.moments
    assert there.device.total < here.device.total


def test_one_micro_batch_needs_gradients_only_as_activations_go():
    one, two = needs(micro_batches=1).backward.device, needs(micro_batches=2).backward.device
    assert (one.gradients, one.activations) == (0, 8 * N)
    assert (two.gradients, two.activations) == (4 * N, 8 * N)
    few = Held(trained=N, activations=2 * N, last_activations=N)
    last = needs(held=few, micro_batches=1).backward.device
    assert (last.gradients, last.activations) == (4 * N, N)


def test_frozen_parameters_have_weights_only():
    plain, beside = needs(), needs(held=Held(trained=N, frozen=N, activations=8 * N))
    assert beside.device.total - plain.device.total == pytest.approx(4 * N)


def test_the_update_can_be_the_worst_moment():
    memory = needs(world=1, held=Held(trained=N), micro_batches=2, precision="bf16", zero_stage=2)
    assert memory.device == memory.update.device
    assert memory.update.device.workspace == 6 * N


def turning(shape, count, **knobs):
    """Return what Muon needs besides what AdamW does while the weights are changed."""
    held = dataclasses.replace(HELD, matrices={shape: count, (1, 8): count})
    muon, adamw = (needs(held=held, optimizer=name, **knobs) for name in ("muon", "adamw"))
    return muon.update.device.workspace - adamw.update.device.workspace


@pytest.mark.parametrize("shape", [(256, 256), (256, 200), (64, 256), (1024, 128)])
def test_muon_needs_what_turning_its_largest_batch_takes(shape):
    with without_numbers(), PeakMemory() as taken:
        matrices = [torch.empty(shape) for _ in range(5)]
        before = taken.alive_bytes
        orthogonalise(torch.stack(matrices))
    of_batch = taken.peak_bytes - before
    assert turning(shape, 5, world=1) == pytest.approx(of_batch, rel=0.01)
    shared = turning(shape, 40, world=8, zero_stage=2)
    assert shared == pytest.approx(of_batch, rel=0.01), "each rank turns its own"


def test_muon_turns_no_more_at_once_than_it_may_unless_one_matrix_is_larger():
    most, larger = turning((1024, 1024), 99, world=1), turning((4096, 4096), 99, world=1)
    assert (most, larger) == (28 * ELEMENTS_AT_ONCE, 28 * 4096**2)
    assert turning((4096, 4096), 99, zero_stage=3) == 32 * 4096**2, "parts are gathered besides"
