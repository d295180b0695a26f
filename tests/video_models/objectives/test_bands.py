"""The pyramid and the wavelets against what they must give by hand."""

import pytest
import torch

from video_models.objectives.bands import haar_bands, laplacian_error, wavelet_error


def clip(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_haar_bands_keep_the_energy():
    video = clip(2, 3, 4, 6, 8)
    bands = haar_bands(video)
    assert bands.shape == (2, 8, 3, 2, 3, 4)
    torch.testing.assert_close(bands.square().sum(), video.square().sum())


def test_each_haar_band_is_a_sum_over_a_cube_with_its_own_signs():
    video = clip(1, 1, 2, 2, 2)
    bands = haar_bands(video).flatten()
    for number in range(8):
        signs = [
            (-1) ** sum(bit & position for bit, position in zip(bits(number), bits(i), strict=True))
            for i in range(8)
        ]
        expected = (video.flatten() * torch.tensor(signs)).sum() / 8**0.5
        torch.testing.assert_close(bands[number], expected)


def bits(number):
    """Frame, row and column of a corner of the cube, or of a band."""
    return number >> 2 & 1, number >> 1 & 1, number & 1


def test_a_single_frame_has_no_change_over_time():
    bands = haar_bands(clip(1, 3, 1, 4, 4))
    assert bands.shape == (1, 8, 3, 1, 2, 2)
    assert bands[:, 4:].abs().max() == 0


def test_the_first_of_an_odd_number_of_frames_stands_for_itself():
    video = clip(1, 3, 5, 4, 4)
    doubled = torch.cat((video[:, :, :1], video), dim=2)
    torch.testing.assert_close(haar_bands(video), haar_bands(doubled))


def test_the_wavelet_error_of_a_constant_is_its_lowest_band_alone():
    flat = torch.full((2, 3, 4, 8, 8), -0.5)
    assert wavelet_error(flat).tolist() == pytest.approx([0.5 * 8**0.5 / 8] * 2)


def test_the_pyramid_of_a_constant_is_its_lowest_band_alone():
    flat = torch.full((2, 3, 2, 32, 32), 0.7)
    assert laplacian_error(flat).tolist() == pytest.approx([0.7, 0.7])


def test_the_pyramid_counts_fine_errors_in_its_finest_band():
    board = torch.ones(1, 1, 1, 64, 64)
    board[..., ::2] = -1
    # The binomial kernel takes a pattern of period two away; nothing is left for coarser bands.
    assert laplacian_error(board).item() == pytest.approx(1.0, abs=0.1)
    assert laplacian_error(torch.ones(1, 1, 1, 64, 64)).item() == pytest.approx(1.0)


@pytest.mark.parametrize("error", [laplacian_error, wavelet_error])
def test_clips_do_not_mix(error):
    difference = clip(3, 3, 5, 16, 20)
    apart = torch.cat([error(one[None]) for one in difference])
    torch.testing.assert_close(error(difference), apart)


@pytest.mark.parametrize("error", [laplacian_error, wavelet_error])
def test_errors_grow_in_proportion(error):
    difference = clip(2, 3, 5, 16, 16)
    torch.testing.assert_close(error(3 * difference), 3 * error(difference))
    assert error(torch.zeros_like(difference)).max() == 0
