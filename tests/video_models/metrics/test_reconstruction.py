"""PSNR and SSIM against slow references and known values."""

import numpy as np
import pytest
import torch

from video_models.metrics.reconstruction import psnr, psnr_by_frame, ssim, ssim_by_frame


def pair_of_clips(frames=3, height=24, width=20):
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, frames, height, width, generator=generator) * 2 - 1
    noise = torch.randn(video.shape, generator=generator)
    strength = torch.tensor([0.05, 0.3]).view(2, 1, 1, 1, 1)
    return (video + strength * noise).clamp(-1, 1), video


def test_psnr_counts_against_a_range_of_two():
    video = torch.zeros(2, 3, 5, 4, 4)
    error = torch.tensor([0.2, 0.02]).view(2, 1, 1, 1, 1)
    torch.testing.assert_close(psnr(video + error, video), torch.tensor([20.0, 40.0]))


def test_equal_clips_are_perfect():
    _, video = pair_of_clips()
    assert psnr(video, video).tolist() == [float("inf")] * 2
    torch.testing.assert_close(ssim(video, video), torch.ones(2))


def test_ssim_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    ours, theirs = ssim(*pair_of_clips()), []
    for a, b in zip(*pair_of_clips(), strict=True):
        frames = [
            metrics.structural_similarity(
                a[:, t].double().numpy(),
                b[:, t].double().numpy(),
                data_range=2,
                channel_axis=0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for t in range(a.shape[1])
        ]
        theirs.append(np.mean(frames))
    torch.testing.assert_close(ours.double(), torch.tensor(theirs), atol=1e-5, rtol=0)


def test_ssim_needs_room_for_its_window():
    small = torch.zeros(1, 3, 1, 10, 32)
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, not 10 x 32"):
        ssim(small, small)


def test_each_frame_is_measured_by_itself():
    reconstruction, video = pair_of_clips(frames=3)
    for t in range(3):
        one = reconstruction[:, :, t : t + 1], video[:, :, t : t + 1]
        torch.testing.assert_close(psnr_by_frame(reconstruction, video)[:, t], psnr(*one))
        torch.testing.assert_close(ssim_by_frame(reconstruction, video)[:, t], ssim(*one))


def test_the_frames_errors_make_the_clips():
    reconstruction, video = pair_of_clips(frames=3)
    errors = (10 ** (-psnr_by_frame(reconstruction, video).double() / 10)).mean(1)
    torch.testing.assert_close(psnr(reconstruction, video).double(), -10 * errors.log10())
