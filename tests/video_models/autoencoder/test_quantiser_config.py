"""Which codebooks a config can describe, and what it refuses."""

import dataclasses

import pytest

from video_models.autoencoder.quantiser_config import QuantiserConfig, TokenAutoencoderConfig
from video_models.presets import AUTOENCODERS


def test_each_kind_knows_its_size_and_its_dimension():
    vq = QuantiserConfig(kind="vq", num_codes=512)
    assert (vq.codebook_size, vq.dim(12)) == (512, 12)
    assert dataclasses.replace(vq, code_dim=4).dim(12) == 4
    fsq = QuantiserConfig(kind="fsq", levels=(8, 5, 5, 5))
    assert (fsq.codebook_size, fsq.dim(12)) == (1000, 4)
    lfq = QuantiserConfig(kind="lfq", num_bits=10)
    assert (lfq.codebook_size, lfq.dim(12)) == (1024, 10)


@pytest.mark.parametrize(
    ("knobs", "says"),
    [
        ({"kind": "rvq"}, "kind is 'rvq'; known: fsq, lfq, vq"),
        ({"kind": "vq"}, "kind 'vq' needs num_codes"),
        ({"kind": "fsq", "num_codes": 512}, "kind 'fsq' needs levels"),
        ({"kind": "lfq", "num_bits": 8, "levels": (8, 5)}, "kind 'lfq' does not read.*'fsq'"),
        ({"kind": "fsq", "levels": (8, 5), "decay": 0.9}, "decay is 0.9.*set kind to 'vq'"),
        ({"kind": "vq", "num_codes": 1}, "num_codes is 1.*2 to 1048576"),
        ({"kind": "fsq", "levels": (8, 1)}, r"levels is \(8, 1\).*at least 2 levels"),
        ({"kind": "lfq", "num_bits": 21}, "num_bits is 21: a codebook of 2097152 codes"),
        ({"kind": "vq", "num_codes": 8, "code_dim": 0}, "code_dim is 0; it must be at least 1"),
        ({"kind": "vq", "num_codes": 8, "decay": 1.0}, r"decay is 1.0; it must lie in \[0, 1\)"),
        ({"kind": "vq", "num_codes": 8, "restart_below": -1.0}, "restart_below is -1.0"),
        ({"kind": "vq", "num_codes": 8, "smoothing": 0.0}, "smoothing is 0.0.*above 0"),
        ({"kind": "lfq", "num_bits": 8, "temperature": 0.0}, "temperature is 0.0"),
        ({"kind": "lfq", "num_bits": 8, "diversity": -1.0}, "diversity is -1.0"),
    ],
)
def test_knobs_that_do_not_fit_are_refused_by_name(knobs, says):
    with pytest.raises(ValueError, match=says):
        QuantiserConfig(**knobs)


def test_tokens_have_no_normalisation():
    backbone = dataclasses.replace(AUTOENCODERS["shapes"], latents_mean=(0.0,) * 12)
    with pytest.raises(ValueError, match=r"backbone\.latents_mean is .*must be None"):
        TokenAutoencoderConfig(
            backbone=backbone, quantiser=QuantiserConfig(kind="lfq", num_bits=10)
        )
