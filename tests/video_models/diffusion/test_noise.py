"""Noise belongs to its seed."""

import torch

from video_models.diffusion.noise import generator_of, initial_noise


def test_noise_depends_on_the_seed_alone():
    one, other = initial_noise(3, (4, 2, 8, 8)), initial_noise(4, (4, 2, 8, 8))
    assert torch.equal(one, initial_noise(3, (4, 2, 8, 8)))
    assert not torch.equal(one, other)
    assert one.dtype == torch.float32
    assert abs(one.std().item() - 1) < 0.1


def test_noise_does_not_touch_the_global_generator():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    initial_noise(1, (2, 2, 2, 2))
    assert torch.equal(torch.rand(1), expected)


def test_every_part_of_a_key_counts():
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, "1"), (0, "times"), (0, "noise")]
    draws = [torch.rand(2, generator=generator_of(*key)).tolist() for key in keys]
    assert len({tuple(draw) for draw in draws}) == len(keys)
