"""What the identity of a layer covers, and what it leaves out."""

import dataclasses

import pytest

from tests.video_platform.latents.toy import POLICY, encode, latents
from video_platform.errors import CacheError
from video_platform.latents import spec
from video_platform.latents.canary import encode_canary
from video_platform.latents.config import CacheConfig
from video_platform.latents.spec import LayerSpec, differences, text_spec

CONFIG = CacheConfig(url="a")


@pytest.mark.parametrize(
    "changes",
    [
        {"autoencoder_fingerprint": "b" * 64},
        {"policy": dataclasses.replace(POLICY, fps=9.0)},
        {"policy": dataclasses.replace(POLICY, untagged="bt709")},
        {"config": CacheConfig(url="a", compute="bfloat16")},
        {"config": CacheConfig(url="a", stored="bfloat16")},
    ],
)
def test_whatever_changes_a_latent_changes_the_fingerprint(changes):
    assert latents(**{"config": CONFIG, **changes}).fingerprint != latents(CONFIG).fingerprint


def test_the_encode_version_changes_the_fingerprint(monkeypatch):
    before = latents(CONFIG).fingerprint
    monkeypatch.setattr(spec, "ENCODE_VERSION", spec.ENCODE_VERSION + 1)
    assert latents(CONFIG).fingerprint != before


@pytest.mark.parametrize(
    "changes",
    [
        {"config": CacheConfig(url="b", unit_size=3, encoders=2, batch_size=9, cpus_per_encoder=4)},
        {"information": {"torch": "9.9"}},
    ],
)
def test_nothing_else_does(changes):
    assert latents(**{"config": CONFIG, **changes}).fingerprint == latents(CONFIG).fingerprint


def test_a_spec_is_read_back_as_it_was_written():
    made = dataclasses.replace(latents(CONFIG), canary=encode_canary(encode, POLICY))
    assert LayerSpec.from_json(made.to_json()) == made


def test_text_has_a_layer_for_each_encoder():
    layer = text_spec("t5", identity={"weights": "1"}, stored="float32")
    assert layer.folder == f"text/t5/{layer.fingerprint[:16]}"
    other = text_spec("t5", identity={"weights": "2"}, stored="float32")
    assert layer.fingerprint != other.fingerprint
    with pytest.raises(CacheError, match=r"'\.\./up'"):
        text_spec("../up", identity={}, stored="float32")


def test_differences_are_named_with_both_values():
    ours, theirs = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}
    assert differences(ours, theirs) == [
        "a.c is 2, not 4",
        "d is 3, not None",
        "e is None, not 5",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit_size": 0}, "unit_size"),
        ({"cpus_per_decoder": -1.0}, "cpus_per_decoder"),
        ({"canary_tolerance": 0.0}, "canary_tolerance"),
        ({"clips_in_flight": 0}, "clips_in_flight"),
        ({"encoders": 2, "max_encoders": 1}, "max_encoders"),
    ],
)
def test_a_config_that_cannot_work_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        CacheConfig(url="a", **change)
