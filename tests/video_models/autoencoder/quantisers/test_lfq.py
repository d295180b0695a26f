"""Lookup-free quantisation: its corners, and its entropies against the sum over all codes."""

import math

import pytest
import torch

from tests.video_models.autoencoder.quantisers.latents import latents_of, whole_codebook
from video_models.autoencoder.quantiser_config import QuantiserConfig
from video_models.autoencoder.quantisers.lfq import LookupFreeQuantiser, mean_code_entropy


def lfq(num_bits, **knobs):
    return LookupFreeQuantiser(QuantiserConfig(kind="lfq", num_bits=num_bits, **knobs))


@pytest.mark.parametrize("num_bits", [1, 5, 18])
def test_index_and_code_are_a_bijection_over_the_whole_codebook(num_bits):
    quantiser = lfq(num_bits)
    indices = whole_codebook(quantiser)
    codes = quantiser.codes(indices)
    assert torch.equal(codes.abs(), torch.ones_like(codes))
    bits = (codes > 0).long().movedim(1, -1)
    assert torch.equal((bits * 2 ** torch.arange(num_bits)).sum(-1), indices)
    if num_bits < 10:
        assert torch.equal(quantiser(0.3 * codes).indices, indices)


def test_zero_counts_as_negative():
    assert lfq(2)(torch.zeros(1, 2, 1, 1, 1)).indices.item() == 0


def test_the_gradient_passes_straight_through():
    latents = latents_of(5).requires_grad_()
    given = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    passed = lfq(5)(latents).latents
    assert torch.equal(torch.autograd.grad(passed, latents, given)[0], given)


@pytest.mark.parametrize("num_bits", [1, 4, 5])
@pytest.mark.parametrize("diversity", [0.0, 1.0, 2.5])
def test_the_entropy_penalty_is_that_of_a_softmax_over_all_codes(num_bits, diversity):
    quantiser = lfq(num_bits, temperature=0.7, diversity=diversity).double()
    latents = latents_of(num_bits).requires_grad_()
    entropy = quantiser(latents).penalties()["entropy"]

    z = latents.movedim(1, -1).flatten(0, -2)
    codes = quantiser.codes(whole_codebook(quantiser))[0, :, :, 0, 0].T
    p = torch.softmax(-torch.cdist(z, codes).square() / 0.7, dim=1)  # (N, K)
    doubt = torch.special.entr(p).sum(1).view(2, -1).sum(1)
    mean = torch.special.entr(p.mean(0)).sum()
    expected = doubt - diversity * (len(z) // 2) * mean
    torch.testing.assert_close(entropy, expected, rtol=1e-4, atol=1e-4)
    ours, theirs = (torch.autograd.grad(x.sum(), latents)[0] for x in (entropy, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_sure_and_evenly_spread_latents_are_the_best_there_is():
    quantiser = lfq(4)
    codes = quantiser.codes(torch.arange(16).view(1, 1, 4, 4))
    penalties = quantiser(codes).penalties()
    assert penalties["entropy"].item() == pytest.approx(-16 * math.log(16), rel=1e-5)
    assert penalties["commitment"].item() == 0


def test_a_large_codebook_is_never_listed_for_each_latent():
    p = torch.full((50, 18), 0.5)
    assert mean_code_entropy(p).item() == pytest.approx(18 * math.log(2), rel=1e-4)
    sure = (torch.rand(50, 18, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    assert mean_code_entropy(sure).item() == pytest.approx(math.log(50), rel=1e-4)


def test_the_entropy_has_a_finite_gradient_where_it_is_sure():
    latents = (100 * latents_of(6)).requires_grad_()
    lfq(6)(latents).penalties()["entropy"].sum().backward()
    assert latents.grad.isfinite().all()


def test_commitment_is_the_squared_distance_to_the_corner():
    latents = torch.tensor([0.5, -3.0]).view(1, 2, 1, 1, 1).requires_grad_()
    commitment = lfq(2)(latents).penalties()["commitment"]
    assert commitment.tolist() == [0.25 + 4.0]
    assert torch.autograd.grad(commitment.sum(), latents)[0].flatten().tolist() == [-1.0, -4.0]
