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
        ({"time_up": (True, False)}, r"time_up is \(True, False\); it must double time at as many"),
        (
            {"space_down": (True, False), "time_down": (False, True), "time_up": (False, True)},
            r"time_up=\(False, True\) leave a level that doubles neither",
        ),
        ({"padding": "reflect"}, "padding is 'reflect'; it is zero or replicate or first_frame"),
        ({"norm": "batch"}, "norm is 'batch'; it is channel_rms or group_frame or group_clip"),
        ({"resampler": "haar"}, "resampler is 'haar'; it is wan or strided or shuffle"),
        ({"mid_attention": "all"}, "mid_attention is 'all'; it is frame or clip"),
        (
            {"resampler": "strided"},
            "resampler='strided' counts the first frame.*set padding to replicate or first_frame",
        ),
        ({"norm": "group_clip", "norm_groups": 4}, "set mid_attention to clip or norm to group_f"),
        ({"norm": "group_frame"}, r"norm_groups is 32; it must divide the widths \[8, 16\]"),
        ({"norm_groups": 0}, "norm_groups is 0; it must be at least 1"),
        (
            {"resampler": "shuffle", "residual_resampling": True},
            "residual_resampling goes with resampler='wan'; 'shuffle' has",
        ),
        (
            {"resampler": "shuffle", "dim_mult": (1, 8, 8)},
            r"'shuffle' cannot deal \[8, 64, 64\] channels and 4 latent ones out evenly",
        ),
        ({"resampler": "shuffle", "latent_channels": 6}, "and 6 latent ones out evenly"),
        ({"latents_mean": (0.0,)}, "latents_mean has 1 entries; latent_channels is 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(changes, says):
    with pytest.raises(ValueError, match=says):
        AutoencoderConfig(**{**SIZES, **changes})
