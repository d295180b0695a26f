"""What all quantisers share: counts, usage, perplexity, bits, and the straight-through gradient."""

import math

import pytest
import torch

from tests.video_models.autoencoder.quantisers.latents import latents_of, run_ranks
from video_models.autoencoder.quantiser_config import QuantiserConfig
from video_models.autoencoder.quantisers import open_quantiser
from video_models.autoencoder.quantisers.code import Quantised, codebook_use, straight_through

KINDS = {
    "fsq": QuantiserConfig(kind="fsq", levels=(4, 3, 3)),
    "lfq": QuantiserConfig(kind="lfq", num_bits=3),
    "vq": QuantiserConfig(kind="vq", num_codes=8),
}


@pytest.fixture(params=KINDS)
def quantiser(request):
    return open_quantiser(KINDS[request.param], 3)


def test_use_of_a_known_mixture():
    # Two codes take a quarter each, one takes half, five are idle: 1.5 bits.
    use = codebook_use(torch.tensor([2, 0, 4, 0, 0, 2, 0, 0]))
    assert use["usage"] == 3 / 8
    assert use["perplexity"] == pytest.approx(2**1.5, rel=1e-12)


def test_even_use_has_the_perplexity_of_the_codebook_and_no_use_has_none():
    assert codebook_use(torch.full((1000,), 7))["perplexity"] == pytest.approx(1000, rel=1e-9)
    assert codebook_use(torch.zeros(4, dtype=torch.int64)) == {"usage": 0.0, "perplexity": 0.0}


def test_straight_through_gives_exactly_the_code_and_the_identity_as_gradient():
    latents = (1e4 * latents_of(3)).requires_grad_()
    code = torch.sign(latents) / 3
    passed = straight_through(code, latents)
    assert torch.equal(passed, code)
    given = torch.randn_like(passed)
    assert torch.equal(torch.autograd.grad(passed, latents, given)[0], given)


def test_bits_are_those_of_numbering_the_codes():
    indices = torch.zeros(2, 3, 4, 4, dtype=torch.int64)
    code = Quantised(torch.zeros(2, 1, 3, 4, 4), indices, 1000, {})
    assert code.bits().tolist() == pytest.approx([48 * math.log2(1000)] * 2)


def test_forward_keeps_shape_and_type(quantiser):
    for dtype in (torch.float32, torch.bfloat16):
        code = quantiser(latents_of(3).to(dtype))
        assert (code.latents.shape, code.latents.dtype) == ((2, 3, 3, 4, 4), dtype)
        assert (code.indices.shape, code.indices.dtype) == ((2, 3, 4, 4), torch.int64)
        assert all(term.shape == (2,) for term in code.penalties().values())


def test_indices_stand_for_the_codes_that_were_passed_on(quantiser):
    code = quantiser(latents_of(3))
    assert torch.equal(quantiser.codes(code.indices), code.latents)


def test_uses_are_counted_over_forward_passes_until_the_update(quantiser):
    first, second = quantiser(latents_of(3)).indices, quantiser(latents_of(3, seed=1)).indices
    counts = torch.bincount(torch.cat((first, second)).flatten(), minlength=quantiser.codebook_size)
    assert quantiser.update() == codebook_use(counts)
    assert quantiser.update() == {"usage": 0.0, "perplexity": 0.0}


def test_looking_counts_nothing(quantiser):
    with torch.no_grad():
        quantiser(latents_of(3))
    quantiser.eval()(latents_of(3))
    assert quantiser.update()["usage"] == 0


def test_use_over_ranks_is_that_of_all_latents_together(quantiser):
    twin = open_quantiser(KINDS[_kind(quantiser)], 3)
    halves = latents_of(3, batch=4).split(2)

    def work(rank, reduce):
        ours = (quantiser, twin)[rank]
        ours(halves[rank])
        return ours.update(reduce)

    together = open_quantiser(KINDS[_kind(quantiser)], 3)
    together(torch.cat(halves))
    assert run_ranks(work) == [together.update()] * 2


def _kind(quantiser):
    return next(k for k, c in KINDS.items() if type(open_quantiser(c, 3)) is type(quantiser))
