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
