"""Each term of the reconstruction objective against an obvious version."""

import pytest
import torch

from video_models.autoencoder.posterior import Posterior
from video_models.autoencoder.quantisers import Quantised
from video_models.objectives.bands import laplacian_error, wavelet_error
from video_models.objectives.config import AdversarialConfig, ReconstructionConfig
from video_models.objectives.outliers import outlier_penalty
from video_models.objectives.reconstruction import gradient_error, reconstruction_terms


def batch():
    generator = torch.Generator().manual_seed(0)
    video, reconstruction = torch.rand(2, 2, 3, 5, 16, 16, generator=generator) * 2 - 1
    mean, logvar = torch.randn(2, 2, 4, 2, 4, 4, generator=generator)
    return reconstruction.requires_grad_(), video, Posterior(mean, logvar)


def test_the_loss_is_the_weighted_sum_of_its_terms():
    reconstruction, video, posterior = batch()
    config = ReconstructionConfig(mse=2.0, l1=0.5, gradient=0.25, kl=0.125)
    terms = reconstruction_terms(reconstruction, video, posterior, config)
    assert all(term.shape == (2,) for term in terms.values())
    difference = (reconstruction - video)[1]
    torch.testing.assert_close(terms["mse"][1], difference.square().mean())
    torch.testing.assert_close(terms["l1"][1], difference.abs().mean())
    torch.testing.assert_close(terms["kl"], posterior.kl() / (3 * 5 * 16 * 16))
    parts = 2 * terms["mse"] + terms["l1"] / 2 + terms["gradient"] / 4 + terms["kl"] / 8
    torch.testing.assert_close(terms["loss"], parts)


def test_a_term_without_weight_is_left_out():
    terms = reconstruction_terms(*batch(), ReconstructionConfig(kl=0.0))
    assert terms.keys() == {"mse", "loss"}


def test_errors_by_scale_and_the_outlier_penalty_are_terms_like_others():
    reconstruction, video, posterior = batch()
    config = ReconstructionConfig(mse=0.0, kl=0.0, laplacian=2.0, wavelet=3.0, outlier=4.0)
    terms = reconstruction_terms(reconstruction, video, posterior, config)
    difference = reconstruction - video
    torch.testing.assert_close(terms["laplacian"], laplacian_error(difference))
    torch.testing.assert_close(terms["wavelet"], wavelet_error(difference))
    torch.testing.assert_close(terms["outlier"], outlier_penalty(posterior.mean))
    parts = 2 * terms["laplacian"] + 3 * terms["wavelet"] + 4 * terms["outlier"]
    torch.testing.assert_close(terms["loss"], parts)


def test_a_quantised_code_is_charged_for_the_penalties_that_it_has():
    reconstruction, video, _ = batch()
    commitment = torch.tensor([30.0, 60.0])
    indices = torch.zeros(2, 2, 4, 4, dtype=torch.int64)
    code = Quantised(torch.zeros(2, 4, 2, 4, 4), indices, 16, {"commitment": commitment})
    config = ReconstructionConfig(commitment=0.5, entropy=1.0, kl=1.0, outlier=1.0)
    terms = reconstruction_terms(reconstruction, video, code, config)
    assert terms.keys() == {"mse", "commitment", "loss"}
    torch.testing.assert_close(terms["commitment"], commitment / (3 * 5 * 16 * 16))
    torch.testing.assert_close(terms["loss"], terms["mse"] + terms["commitment"] / 2)


def test_a_perceptual_network_is_asked_when_its_term_has_a_weight():
    reconstruction, video, posterior = batch()

    def distance(one, other):
        assert one is reconstruction and other is video
        return torch.tensor([1.0, 2.0])

    config = ReconstructionConfig(mse=0.0, kl=0.0, lpips=0.5, lpips_weights=("vgg.pth",))
    terms = reconstruction_terms(reconstruction, video, posterior, config, perceptual=distance)
    assert terms["loss"].tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match="no perceptual network was given"):
        reconstruction_terms(reconstruction, video, posterior, config)


def test_samples_do_not_mix():
    reconstruction, video, posterior = batch()
    config = ReconstructionConfig(l1=1.0, gradient=1.0)
    together = reconstruction_terms(reconstruction, video, posterior, config)["loss"]
    alone = Posterior(posterior.mean[1:], posterior.logvar[1:])
    apart = reconstruction_terms(reconstruction[1:], video[1:], alone, config)["loss"]
    torch.testing.assert_close(together[1:], apart)


def test_a_constant_error_has_no_gradient_and_an_edge_has():
    flat = torch.full((1, 3, 2, 16, 16), 0.7)
    assert gradient_error(flat).item() == pytest.approx(0, abs=1e-12)
    edge = torch.zeros(1, 3, 2, 16, 16)
    edge[..., 8:] = 1.0
    # One column of 15, then of 7, then of 3 differs by 1; halving keeps this edge sharp.
    assert gradient_error(edge).item() == pytest.approx(1 / 15 + 1 / 7 + 1 / 3)


def test_a_gradient_reaches_the_reconstruction():
    reconstruction, video, posterior = batch()
    config = ReconstructionConfig(mse=0.0, gradient=1.0)
    reconstruction_terms(reconstruction, video, posterior, config)["loss"].sum().backward()
    assert reconstruction.grad is not None
    assert reconstruction.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"kl": -1.0}, "kl is -1.0"),
        ({"mse": 0.0, "kl": 1.0}, "mse, l1, gradient, laplacian, wavelet and lpips are all 0"),
        ({"lpips": 1.0}, "lpips_weights names no file"),
    ],
)
def test_weights_that_make_no_loss_are_refused(weights, says):
    with pytest.raises(ValueError, match=says):
        ReconstructionConfig(**weights)


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"weight": 0.0}, "weight is 0.0"),
        ({"r1": -1.0}, "r1 is -1.0"),
        ({"r1_every": 0}, "r1_every is 0"),
    ],
)
def test_knobs_that_make_no_game_are_refused(knobs, says):
    with pytest.raises(ValueError, match=says):
        AdversarialConfig(**knobs)
