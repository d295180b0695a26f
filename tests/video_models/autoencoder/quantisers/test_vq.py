"""Vector quantisation: the moving averages, their start, restarts, ranks, and going on."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from tests.video_models.autoencoder.quantisers.latents import distances, latents_of, run_ranks
from video_models.autoencoder.quantiser_config import QuantiserConfig
from video_models.autoencoder.quantisers import vq as module
from video_models.autoencoder.quantisers.vq import VectorQuantiser, nearest


def vq(num_codes=6, dim=3, **knobs):
    config = QuantiserConfig(kind="vq", num_codes=num_codes, **knobs)
    return VectorQuantiser(config, dim)


def rows_of(latents):
    return latents.movedim(1, -1).flatten(0, -2)


def clusters(num=6, dim=3, *, batch=2, seed=0, noise=0.01):
    """Return latents around `num` far points, and the points."""
    generator = torch.Generator().manual_seed(7)
    points = 10 * torch.randn(num, dim, generator=generator)
    chosen = torch.randint(num, (batch, 3, 4, 4), generator=generator.manual_seed(seed))
    spread = noise * torch.randn(batch, 3, 4, 4, dim, generator=generator)
    return (points[chosen] + spread).movedim(-1, 1), points


def same_state(one, other, **tolerance):
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, **tolerance)


def test_the_nearest_code_is_found_in_pieces_of_any_size(monkeypatch):
    rows, codebook = torch.randn(50, 3), torch.randn(6, 3)
    expected = distances(rows, codebook).argmin(dim=1)
    for most in (1 << 24, 100, 1):
        monkeypatch.setattr(module, "DISTANCES_AT_ONCE", most)
        assert torch.equal(nearest(rows, codebook), expected)


def test_the_first_batch_starts_the_codebook_at_its_clusters():
    latents, points = clusters()
    quantiser = vq(num_codes=24)
    assert quantiser(latents).penalties()["commitment"].min() > 100
    quantiser.update()
    assert distances(points, quantiser.codebook).min(dim=1).values.max() < 0.1
    assert quantiser(latents).penalties()["commitment"].max() < 1


def test_an_update_is_the_papers_moving_average():
    quantiser = vq(decay=0.9, smoothing=0.5, restart_below=0.0)
    quantiser(latents_of(3))
    quantiser.update()
    uses, sums = quantiser.uses.clone(), quantiser.sums.clone()
    latents = latents_of(3, seed=1)
    indices = quantiser(latents).indices.flatten()
    quantiser.update()
    for k in range(6):
        chosen = rows_of(latents)[indices == k]
        uses[k] = 0.9 * uses[k] + 0.1 * len(chosen)
        sums[k] = 0.9 * sums[k] + 0.1 * chosen.sum(0)
    smoothed = (uses + 0.5) / (uses.sum() + 6 * 0.5) * uses.sum()
    torch.testing.assert_close(quantiser.codebook, sums / smoothed[:, None])


def test_no_gradient_reaches_the_codebook_and_commitment_pulls_latents_to_it():
    quantiser = vq()
    latents = latents_of(3).requires_grad_()
    code = quantiser(latents)
    commitment = code.penalties()["commitment"]
    expected = (latents - quantiser.codes(code.indices)).square().flatten(1).sum(1)
    torch.testing.assert_close(commitment, expected)
    pull = torch.autograd.grad(commitment.sum(), latents, retain_graph=True)[0]
    torch.testing.assert_close(pull, 2 * (latents - code.latents).detach())
    given = torch.randn(latents.shape)
    assert torch.equal(torch.autograd.grad(code.latents, latents, given)[0], given)
    assert not any(buffer.requires_grad for buffer in quantiser.buffers())


def test_a_code_that_is_not_chosen_restarts_at_a_latent_of_the_batch():
    quantiser = vq(num_codes=32, restart_below=0.1)
    quantiser(latents_of(3))
    quantiser.update()
    quantiser.codebook[5:] = 1e3
    quantiser.sums[5:] = 0
    quantiser.uses[5:] = 0
    latents = latents_of(3, seed=1)
    quantiser(latents)
    quantiser.update()
    moved = quantiser.codebook[5:].clone()
    distance = distances(moved, rows_of(latents)).min(dim=1).values
    assert (distance < 1e-5).all()
    assert len(torch.unique(moved, dim=0)) == 27
    # They hold their place in the next update.
    quantiser(latents)
    quantiser.update()
    assert (quantiser.codebook[5:] - moved).norm(dim=1).max() < 0.2


def test_a_code_in_use_never_restarts():
    _, points = clusters()
    quantiser = vq(restart_below=0.1, decay=0.5)
    quantiser(clusters()[0])
    quantiser.update()
    quantiser.codebook.copy_(points)
    quantiser.uses.fill_(16)
    quantiser.sums.copy_(16 * points)
    for seed in range(10):
        quantiser(clusters(seed=seed)[0])
        quantiser.update()
        assert (quantiser.codebook - points).abs().max() < 0.05


def test_without_restarts_an_idle_code_stays_idle():
    quantiser = vq(restart_below=0.0)
    quantiser(latents_of(3))
    quantiser.update()
    quantiser.uses[0], quantiser.sums[0], quantiser.codebook[0] = 1e-4, 1.0, 1e3
    quantiser(latents_of(3, seed=1))
    quantiser.update()
    assert quantiser.codebook[0].norm() > 1e2


@pytest.mark.parametrize("normalised", [False, True])
def test_two_ranks_learn_what_one_learns_from_both_halves(normalised):
    batches = [latents_of(3, batch=4, seed=seed) for seed in range(5)]
    alone, *ranks = (vq(num_codes=64, normalised=normalised, restart_below=0.5) for _ in range(3))
    for batch in batches:
        alone(batch)
        used = alone.update()
        halves = batch[:1], batch[1:]  # not even equally many

        def work(rank, reduce, halves=halves):
            for clip in halves[rank].split(1):
                ranks[rank](clip)
            return ranks[rank].update(reduce)

        assert run_ranks(work) == [used, used]
        same_state(*ranks, rtol=0, atol=0)
        same_state(alone, ranks[0], rtol=1e-4, atol=1e-5)


def test_training_goes_on_from_its_state_bit_for_bit():
    quantiser = vq(num_codes=64, restart_below=0.5)
    for seed in range(3):
        quantiser(latents_of(3, seed=seed))
        quantiser.update()
    again = vq(num_codes=64, restart_below=0.5)
    again.load_state_dict(copy.deepcopy(quantiser.state_dict()))
    for seed in range(3, 6):
        latents = latents_of(3, seed=seed)
        assert torch.equal(quantiser(latents).latents, again(latents).latents)
        assert quantiser.update() == again.update()
        same_state(quantiser, again, rtol=0, atol=0)


def test_normalised_latents_and_codes_have_length_1_and_the_angle_decides():
    quantiser = vq(normalised=True)
    for seed in range(3):
        quantiser(latents_of(3, seed=seed))
        quantiser.update()
    torch.testing.assert_close(quantiser.codebook.norm(dim=1), torch.ones(6))
    latents = latents_of(3, seed=9)
    code = quantiser(latents)
    cosine = F.normalize(rows_of(latents)) @ quantiser.codebook.T
    assert torch.equal(code.indices.flatten(), cosine.argmax(dim=1))
    assert torch.equal(code.indices, quantiser(5 * latents).indices)
    assert code.penalties()["commitment"].max() <= 4 * code.indices[0].numel()


def test_latents_that_are_not_finite_leave_the_codebook_alone():
    quantiser = vq()
    quantiser(latents_of(3))
    quantiser.update()
    before = copy.deepcopy(quantiser)
    quantiser(latents_of(3, seed=1) * torch.tensor([1.0, math.nan]).view(2, 1, 1, 1, 1))
    quantiser.update()
    same_state(before, quantiser, rtol=0, atol=0)


def test_an_update_without_latents_changes_nothing():
    quantiser = vq()
    before = copy.deepcopy(quantiser)
    assert quantiser.update() == {"usage": 0.0, "perplexity": 0.0}
    same_state(before, quantiser, rtol=0, atol=0)


def test_averages_stay_in_float32_in_a_half_precision_network():
    quantiser = vq().to(torch.bfloat16)
    assert quantiser.codebook.dtype == quantiser.sums.dtype == torch.float32
    assert torch.equal(quantiser.codebook, vq().codebook)
    assert quantiser(latents_of(3).bfloat16()).latents.dtype == torch.bfloat16
    assert quantiser.double().codebook.dtype == torch.float32
