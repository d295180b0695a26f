"""The config of a token autoencoder goes through JSON and comes back."""

import json

import pytest

from video_models.autoencoder.quantiser_config import QuantiserConfig, TokenAutoencoderConfig
from video_models.formats.tokens import from_tree, to_tree
from video_models.presets import AUTOENCODERS

QUANTISERS = {
    "fsq": QuantiserConfig(kind="fsq", levels=(8, 5, 5, 5)),
    "lfq": QuantiserConfig(kind="lfq", num_bits=10, temperature=0.5),
    "vq": QuantiserConfig(kind="vq", num_codes=512, code_dim=8, normalised=True),
}


def config_of(kind):
    return TokenAutoencoderConfig(backbone=AUTOENCODERS["shapes"], quantiser=QUANTISERS[kind])


@pytest.mark.parametrize("kind", QUANTISERS)
def test_json_gives_back_the_same_config(kind):
    tree = json.loads(json.dumps(to_tree(config_of(kind))))
    assert tree["_class_name"] == "TokenAutoencoder"
    assert from_tree(tree) == config_of(kind)


def test_only_the_knobs_of_its_kind_are_written():
    assert to_tree(config_of("fsq"))["quantiser"] == {"kind": "fsq", "levels": (8, 5, 5, 5)}


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"colour": "red"}, TypeError, r"\['backbone', 'colour', 'quantiser'\]; expected"),
        ({"quantiser": {"kind": "fsq"}}, ValueError, "kind 'fsq' needs levels"),
        ({"backbone": {"base_dim": 8}}, TypeError, "missing"),
    ],
)
def test_what_does_not_fit_is_refused(changes, error, says):
    with pytest.raises(error, match=says):
        from_tree({**to_tree(config_of("fsq")), **changes})
