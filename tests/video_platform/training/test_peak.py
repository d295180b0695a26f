"""Tensors without numbers take what tensors with numbers take."""

import torch
from torch import nn

from video_platform.training.peak import (
    PeakMemory,
    backward_peak,
    cast_parameters,
    without_numbers,
)

MIB = 1 << 20


def test_a_storage_counts_once_and_until_nobody_holds_it():
    outside = torch.zeros(MIB // 4)
    with PeakMemory(outside=[outside]) as memory:
        a = outside + 1
        view = a[10:]
        outside.view(-1).mul_(2)
        assert memory.alive_bytes == MIB
        del a
        assert memory.alive_bytes == MIB
        del view
        assert memory.alive_bytes == 0
        torch.empty(2 * MIB // 4)
    assert memory.peak_bytes == 2 * MIB


def test_any_size_can_be_counted_in_no_memory():
    with without_numbers():
        layer = nn.Linear(1 << 16, 1 << 16, bias=False)  # 16 GiB
        peak = backward_peak(layer, lambda: layer(torch.ones(1, 1 << 16)).sum())
    weight, vector = 4 << 32, 4 << 16
    assert weight < peak < weight + 8 * vector


def test_gradients_go_once_they_are_whole_and_frozen_parameters_have_none():
    def peak(*, frozen):
        with without_numbers():
            layers = nn.Sequential(*(nn.Linear(512, 512, bias=False) for _ in range(8)))
            layers[0].requires_grad_(not frozen)
            return backward_peak(layers, lambda: layers(torch.ones(1, 512)).sum())

    assert MIB < peak(frozen=False) < 1.2 * MIB, "one gradient at a time"
    assert peak(frozen=True) <= peak(frozen=False)


def test_the_count_is_that_of_a_run_with_numbers():
    def peak():
        layers = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
        return backward_peak(layers, lambda: layers(torch.ones(128, 64)).square().mean())

    with without_numbers():
        expected = peak()
    assert peak() == expected


def test_parameters_without_numbers_change_their_type():
    with without_numbers():
        layer = nn.Linear(4, 4)
        layer.bias.requires_grad_(False)
        cast_parameters(layer, torch.bfloat16)
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.bfloat16}
    assert (layer.weight.requires_grad, layer.bias.requires_grad) == (True, False)
