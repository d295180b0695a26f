"""A transformer's config says what is wrong with it."""

import pytest

from video_models.transformer.config import TransformerConfig

SIZES = {
    "latent_channels": 4,
    "text_dim": 8,
    "num_heads": 2,
    "head_dim": 6,
    "ffn_dim": 16,
    "num_layers": 1,
}


def test_the_width_is_heads_times_head_dim():
    assert TransformerConfig(**SIZES).dim == 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 0}, "num_layers is 0; it must be at least 1"),
        ({"head_dim": 7}, "head_dim is 7; it must be even"),
        ({"head_dim": 4}, "at least 6"),
        ({"freq_dim": 5}, "freq_dim is 5"),
        ({"patch_size": (1, 2)}, "patch_size is"),
        ({"patch_size": (1, 2, 0)}, "three positive numbers"),
    ],
)
def test_a_wrong_value_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        TransformerConfig(**{**SIZES, **change})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"more_text_dims": (8, 0)}, r"more_text_dims is \(8, 0\)"),
        ({"condition_channels": -1}, "condition_channels is -1; 0 takes no condition"),
        ({"image_dim": 0}, "image_dim is 0"),
        ({"image_positions": 5}, "image_positions are given and image_dim is not"),
        ({"window": (1, 2, 2)}, r"window is \(1, 2, 2\) and attention 'full'"),
        ({"attention": "windowed"}, "window is None and attention 'windowed'"),
        ({"attention": "windowed", "window": (1, 2)}, r"window is \(1, 2\)"),
        ({"trained_grid": (1, 2, 0)}, r"trained_grid is \(1, 2, 0\)"),
        ({"full_every": 0}, "full_every is 0"),
        ({"extrapolation": "ntk"}, "take extrapolation='interpolation'"),
    ],
)
def test_a_wrong_switch_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        TransformerConfig(**{**SIZES, **change})


def test_a_condition_comes_in_beside_the_latents():
    config = TransformerConfig(**SIZES, condition_channels=5)
    assert (config.input_channels, config.latent_channels) == (9, 4)
