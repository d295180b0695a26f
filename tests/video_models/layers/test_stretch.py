"""Rotary positions beyond those of the training."""

import pytest
import torch

from video_models.layers.rope import Stretch, absolute_positions, axis_angles, rotation

TRAINED = (4, 6, 8)


@pytest.mark.parametrize("rule", ["interpolation", "ntk"])
def test_within_the_trained_grid_nothing_changes(rule):
    cpu, stretch = torch.device("cpu"), Stretch(TRAINED, rule)
    for grid in (TRAINED, (1, 2, 3)):
        for positions in (rotation, absolute_positions):
            told = positions(grid, 24, device=cpu, stretch=stretch)
            assert torch.equal(told, positions(grid, 24, device=cpu))


def test_interpolation_lays_more_positions_into_the_trained_range():
    angles = axis_angles(8, 12, trained=4)
    torch.testing.assert_close(angles[::2], axis_angles(4, 12))
    torch.testing.assert_close(angles[1], axis_angles(4, 12)[1] / 2)


def test_ntk_keeps_the_fastest_channels_and_slows_the_slowest_by_the_factor():
    plain, slowed = axis_angles(12, 12), axis_angles(12, 12, trained=4, rule="ntk")
    torch.testing.assert_close(slowed[:, 0], plain[:, 0])
    torch.testing.assert_close(slowed[:, -1], plain[:, -1] / 3)
    assert (slowed[1] < plain[1])[1:].all()


@pytest.mark.parametrize("rule", ["interpolation", "ntk"])
def test_an_axis_that_is_not_longer_is_left_alone(rule):
    stretch = Stretch((4, 6, 8), rule)
    longer = rotation((8, 6, 8), 24, device=torch.device("cpu"), stretch=stretch)
    plain = rotation((8, 6, 8), 24, device=torch.device("cpu"))
    frames, space = longer[:, :4], longer[:, 4:]
    assert torch.equal(space, plain[:, 4:])
    assert not torch.allclose(frames, plain[:, :4])
