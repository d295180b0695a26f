"""Which autoencoders a config can describe, and what it refuses."""

import pytest

from video_models.autoencoder.config import AutoencoderConfig
from video_models.presets import AUTOENCODERS

SIZES = {
    "base_dim": 8,
    "latent_channels": 4,
    "dim_mult": (1, 2, 2),
    "num_res_blocks": 1,
    "space_down": (True, False),
    "time_down": (True, True),
}


def test_published_sizes_shrink_as_published():
    assert AUTOENCODERS["wan-2.1"].latent_shape(81, 480, 832) == (16, 21, 60, 104)
    assert AUTOENCODERS["wan-2.2"].latent_shape(121, 704, 1280) == (48, 31, 44, 80)


def test_the_small_worlds_latents_are_few():
    channels, frames, height, width = AUTOENCODERS["shapes"].latent_shape(9, 32, 32)
    assert frames == 3
    assert channels * frames * height * width <= 9 * 32 * 32 * 3 / 8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"base_dim": 0}, "base_dim is 0; it must be at least 1"),
        ({"decoder_dim": -1}, "decoder_dim is -1"),
        ({"dim_mult": (1, 0, 2)}, r"dim_mult is \(1, 0, 2\)"),
        ({"dropout": 1.0}, r"dropout is 1.0; it must lie in \[0, 1\)"),
        ({"space_down": (True,)}, "with 3 levels in dim_mult each needs 2"),
        ({"space_down": (True, False), "time_down": (True, False)}, "halves neither"),
        ({"base_dim": 7, "dim_mult": (1, 1, 1)}, r"make decoder_dim \(or base_dim\) even"),
        ({"latents_mean": (0.0,)}, "latents_mean has 1 entries; latent_channels is 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(changes, says):
    with pytest.raises(ValueError, match=says):
        AutoencoderConfig(**{**SIZES, **changes})
