"""First frame, borders and inside are told apart as a causal autoencoder makes them."""

import pytest
import torch

from video_models.metrics.frames import by_place, place_of


def test_groups_of_four_begin_at_every_fifth_frame():
    places = [place_of(frame, 4) for frame in range(9)]
    assert places == ["first", "border", *["inside"] * 3, "border", *["inside"] * 3]


def test_a_measure_is_averaged_over_each_place():
    values = torch.tensor([[9.0, 1, 2, 3, 4, 5, 6, 7, 8], [0.0] * 9])
    found = by_place(values, 4)
    assert {place: mean.tolist() for place, mean in found.items()} == {
        "first": [9.0, 0.0],
        "border": [3.0, 0.0],
        "inside": [pytest.approx(5.0), 0.0],
    }


def test_an_image_has_its_first_frame_alone():
    assert by_place(torch.ones(2, 1), 4).keys() == {"first"}


def test_without_compression_over_time_there_are_no_borders():
    assert by_place(torch.ones(2, 3), 1).keys() == {"first", "inside"}
