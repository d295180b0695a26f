"""What a rank holds: less with every stage, and what is offloaded lies in the machine."""

import itertools

import pytest

from video_platform.training.config import TrainingConfig
from video_platform.training.memory import Held, rank_memory

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
