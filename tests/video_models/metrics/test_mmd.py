"""The discrepancy against its definition, closed forms and another library."""

import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from video_models.metrics.mmd import gaussian_kernel, mmd, polynomial_kernel


def clouds(n=40, m=40, features=6, shift=0.5):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, features, generator=draw, dtype=torch.float64)
    return x, torch.randn(m, features, generator=draw, dtype=torch.float64) + shift


def slow(x, y, kernel):
    within = [
        sum(
            kernel(a[i : i + 1], a[j : j + 1]).item()
            for i in range(len(a))
            for j in range(len(a))
            if i != j
        )
        / (len(a) * (len(a) - 1))
        for a in (x, y)
    ]
    across = sum(kernel(a[None], b[None]).item() for a in x for b in y) / (len(x) * len(y))
    return sum(within) - 2 * across


@pytest.mark.parametrize("kernel", [polynomial_kernel(), gaussian_kernel(1.5)])
def test_it_is_its_definition(kernel):
    x, y = clouds(7, 5)
    assert mmd(x, y, kernel=kernel) == pytest.approx(slow(x, y, kernel), abs=1e-12)


def test_it_is_that_of_torchmetrics_for_the_cubic_kernel():
    x, y = clouds()
    kernel = polynomial_kernel(degree=3, constant=1.0)
    theirs = poly_mmd(x, y, degree=3, gamma=1 / 6, coef=1.0).item()
    assert mmd(x, y, kernel=kernel) == pytest.approx(theirs, rel=1e-4)


def test_between_two_gaussians_the_gaussian_kernel_has_a_closed_form():
    # E k = (h^2 / (h^2 + 2))^(F/2) exp(-|m|^2 / (2 (h^2 + 2))) for unit variances.
    x, y = clouds(4000, 4000, features=2, shift=1.0)
    h2 = 2.0
    base = h2 / (h2 + 2)
    expected = 2 * base - 2 * base * torch.exp(torch.tensor(-2.0 / (2 * (h2 + 2)))).item()
    assert mmd(x, y, kernel=gaussian_kernel(h2**0.5)) == pytest.approx(expected, rel=0.1)


def test_equal_laws_are_near_zero_and_the_biased_estimate_is_never_negative():
    x, y = clouds(shift=0.0)
    assert abs(mmd(x, y)) < 0.1
    assert mmd(x, x, estimator="biased") == pytest.approx(0, abs=1e-12)
    assert mmd(x, y, estimator="biased") > mmd(x, y)


def test_clouds_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match="of one network"):
        mmd(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="at least two"):
        mmd(torch.zeros(1, 3), torch.zeros(4, 3))
