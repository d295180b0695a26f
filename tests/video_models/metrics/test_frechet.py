"""The Fréchet distance of normal laws, where it is known in closed form."""

import numpy as np
import pytest
import torch

from video_models.metrics.frechet import (
    Gaussian,
    frechet_distance,
    frechet_distance_of,
    gaussian_of,
)


def rotation(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


def law(mean, deviations, basis=None):
    spread = torch.diag(torch.tensor(deviations, dtype=torch.float64) ** 2)
    if basis is not None:
        spread = basis @ spread @ basis.T
    return Gaussian(torch.tensor(mean, dtype=torch.float64), spread)


def test_along_common_axes_deviations_differ_like_means():
    """|m_a - m_b|^2 + sum (s_a - s_b)^2, in any common basis."""
    for basis in (None, rotation(3)):
        a = law([1.0, 0.0, 2.0], [1.0, 2.0, 3.0], basis)
        b = law([0.0, 0.0, 4.0], [1.5, 2.0, 1.0], basis)
        assert frechet_distance(a, b) == pytest.approx(1 + 4 + 0.25 + 0 + 4)


def test_in_two_dimensions_any_two_laws_have_a_closed_form():
    """Tr (S_a S_b)^(1/2) = (Tr S_a S_b + 2 (det S_a det S_b)^(1/2))^(1/2)."""
    a, b = law([0.0, 0.0], [1.0, 3.0], rotation(2, 1)), law([0.0, 0.0], [2.0, 0.5], rotation(2, 2))
    cross = torch.trace(a.covariance @ b.covariance) + 2 * (1 * 3 * 2 * 0.5)
    expected = (1 + 9) + (4 + 0.25) - 2 * cross.sqrt()
    assert frechet_distance(a, b) == pytest.approx(float(expected))


def test_it_is_symmetric_and_zero_for_the_same_law():
    a, b = law([0.0] * 4, [1.0, 2, 3, 4], rotation(4, 1)), law([1.0] * 4, [4.0, 1, 1, 2])
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_agrees_with_the_matrix_root_of_scipy():
    linalg = pytest.importorskip("scipy.linalg")
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 6, generator=generator), 2 * torch.randn(40, 6, generator=generator) + 1
    a, b = (np.cov(v.double().numpy(), rowvar=False) for v in (x, y))
    root = np.trace(linalg.sqrtm(a @ b).real)
    gap = (x.double().mean(0) - y.double().mean(0)).square().sum()
    expected = float(gap) + np.trace(a) + np.trace(b) - 2 * root
    assert frechet_distance_of(x, y) == pytest.approx(expected)


def test_fewer_samples_than_features_are_no_trouble():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 20, generator=generator)
    assert frechet_distance_of(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance_of(x, x + 3) == pytest.approx(9 * 20, rel=1e-6)


def test_a_law_is_fitted_with_the_unbiased_covariance():
    fitted = gaussian_of(torch.tensor([[0.0], [2.0]]))
    assert (fitted.mean.tolist(), fitted.covariance.tolist()) == ([1.0], [[2.0]])


def test_what_is_no_cloud_is_told():
    with pytest.raises(ValueError, match="N of at least 2"):
        gaussian_of(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="2 and 3 features; both must come of one network"):
        frechet_distance(law([0.0] * 2, [1.0] * 2), law([0.0] * 3, [1.0] * 3))
