"""Rotary positions: what is rotated, and that only distances matter."""

import torch

from video_models.layers.rope import (
    absolute_positions,
    axis_angles,
    axis_widths,
    rotate,
    rotation,
)


def test_a_head_is_cut_into_three_runs():
    assert axis_widths(128) == (44, 42, 42)
    assert axis_widths(64) == (24, 20, 20)
    assert axis_widths(12) == (4, 4, 4)


def test_angles_are_exact_far_out():
    angles = axis_angles(1024, 44)
    assert angles.dtype == torch.float64
    assert angles[1000, 3].item() == 1000 * 10000 ** (-6 / 44)


def test_tokens_are_in_frame_row_column_order():
    turn = rotation((2, 3, 4), 12, device=torch.device("cpu"))
    angles = axis_angles(4, 4)
    token = turn[1 * 12 + 2 * 4 + 3]
    assert torch.equal(token.real, angles[[1, 2, 3]].cos().float().flatten())
    assert torch.equal(token.imag, angles[[1, 2, 3]].sin().float().flatten())


def test_scores_depend_on_distances_alone():
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 12), torch.randn(1, 1, 1, 12)
    turn = rotation((6, 1, 1), 12, device=torch.device("cpu"))

    def score(i, j):
        return (rotate(q, turn[[i]]) * rotate(k, turn[[j]])).sum()

    torch.testing.assert_close(score(0, 2), score(3, 5))
    assert abs(score(0, 2) - score(0, 3)) > 1e-3


def test_rotation_keeps_lengths_and_dtype():
    torch.manual_seed(0)
    x = torch.randn(2, 24, 3, 12)
    turn = rotation((2, 3, 4), 12, device=torch.device("cpu"))
    torch.testing.assert_close(rotate(x, turn).norm(dim=-1), x.norm(dim=-1))
    assert rotate(x.bfloat16(), turn).dtype == torch.bfloat16


def test_neighbouring_channels_turn_as_a_pair():
    x = torch.tensor([3.0, 4.0] + [0.0] * 10).view(1, 1, 1, 12)
    angle = torch.tensor(0.3)
    turn = torch.polar(torch.ones(6), angle.repeat(6))[None]
    a, b = rotate(x, turn)[0, 0, 0, :2]
    torch.testing.assert_close(a, 3 * angle.cos() - 4 * angle.sin())
    torch.testing.assert_close(b, 3 * angle.sin() + 4 * angle.cos())


def test_absolute_positions_are_the_sinusoids_of_each_axis():
    told = absolute_positions((2, 3, 4), 24, device=torch.device("cpu"))
    angles = torch.cat([axis_angles(4, 8)[[place]] for place in (1, 2, 3)], dim=1)[0]
    assert told.shape == (24, 24)
    assert torch.equal(told[1 * 12 + 2 * 4 + 3], torch.cat((angles.cos(), angles.sin())).float())
    assert len(told.unique(dim=0)) == 24
