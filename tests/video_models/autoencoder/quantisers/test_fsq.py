"""Finite scalar quantisation: its grid, its bound, and its gradient."""

import pytest
import torch

from tests.video_models.autoencoder.quantisers.latents import latents_of, whole_codebook
from video_models.autoencoder.quantiser_config import QuantiserConfig
from video_models.autoencoder.quantisers.fsq import FiniteScalarQuantiser, bound

LEVELS = [(8, 5, 5, 5), (2, 3), (7,), (8, 8, 8, 5, 5, 5)]


def fsq(levels):
    return FiniteScalarQuantiser(QuantiserConfig(kind="fsq", levels=levels))


@pytest.mark.parametrize("levels", LEVELS)
def test_index_and_code_are_a_bijection_over_the_whole_codebook(levels):
    quantiser = fsq(levels)
    indices = whole_codebook(quantiser)
    codes = quantiser.codes(indices)
    assert len(torch.unique(codes.movedim(1, -1).flatten(0, -2), dim=0)) == indices.numel()
    assert codes.min() == -1
    assert codes.max() <= 1
    # Latents that the bound takes to the codes: their indices are the ones we began with.
    middle = (quantiser.levels // 2).view(-1, 1, 1, 1)
    odd = (quantiser.levels % 2).view(-1, 1, 1, 1)
    reach = (quantiser.levels.view(-1, 1, 1, 1) - 1) * 1.001 / 2
    offset = 0.5 * (1 - odd)
    latents = torch.atanh((codes * middle + offset) / reach) - torch.atanh(offset / reach)
    assert torch.equal(quantiser(latents).indices, indices)


def test_the_first_number_turns_fastest():
    codes = fsq((3, 2)).codes(torch.arange(6).view(1, -1, 1, 1))[0, :, :, 0, 0].T
    assert codes.tolist() == [[-1, -1], [0, -1], [1, -1], [-1, 0], [0, 0], [1, 0]]


@pytest.mark.parametrize("levels", LEVELS)
def test_rounding_the_bound_gives_each_level_and_no_other(levels):
    sizes = torch.tensor(levels)
    line = torch.linspace(-20, 20, 20001).unsqueeze(1).expand(-1, len(levels))
    steps = bound(line, sizes).round()
    for column, size in zip(steps.T, levels, strict=True):
        expected = torch.arange(size) - size // 2
        assert torch.equal(column.unique(), expected.float())
    assert bound(torch.zeros(1, len(levels)), sizes).abs().max() < 1e-6


def test_the_gradient_is_that_of_the_bound_as_if_nothing_were_rounded():
    quantiser = fsq((8, 5, 5, 5))
    latents = latents_of(4).requires_grad_()
    given = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    through = torch.autograd.grad(quantiser(latents).latents, latents, given)[0]
    middle = quantiser.levels // 2
    smooth = (bound(latents.movedim(1, -1), quantiser.levels) / middle).movedim(-1, 1)
    expected = torch.autograd.grad(smooth, latents, given)[0]
    torch.testing.assert_close(through, expected)
    assert (through != 0).all()


def test_there_is_nothing_to_pay_and_nothing_to_learn():
    quantiser = fsq((8, 5, 5, 5))
    assert quantiser(latents_of(4)).penalties() == {}
    assert quantiser.state_dict() == {}
