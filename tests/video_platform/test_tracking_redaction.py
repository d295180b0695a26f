"""Secrets are hidden; what only looks like one is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from video_platform.tracking import redact, redact_text
from video_platform.tracking.redaction import HIDDEN, is_secret_key


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "hub_token",
        "AWS_SECRET_ACCESS_KEY",
        "apiKey",
        "s3.secret",
        "auth",
        "private-key",
    ],
)
def test_a_key_that_names_a_secret_hides_its_value(key):
    assert redact({key: "swordfish"}) == {key: HIDDEN}


@pytest.mark.parametrize(
    "key",
    ["max_tokens", "tokenizer", "num_tokens", "keyframes", "monkey", "author", "keep", "passes"],
)
def test_a_key_that_only_sounds_like_one_keeps_it(key):
    assert redact({key: "swordfish", "n": 3}) == {key: "swordfish", "n": 3}


@pytest.mark.parametrize(
    "secret",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "hf_abcdefghijklmnopqrstuvwxyz",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "Bearer abcdef123456",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
        "x9Kq2LmZ7vTr4WbN8pYc3HsD",
    ],
)
def test_a_value_that_looks_like_a_secret_is_hidden_under_any_key(secret):
    told = redact({"note": f"see {secret} here", "deep": [{"also": secret}]})
    assert secret not in str(told)
    assert "see" in told["note"]


@pytest.mark.parametrize(
    "value",
    [
        "8d231486c06344e195ab18998c6a1efa",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "/mnt/data/Projects2026/video-diffusion/outputs/autoencoder",
        "google/umt5-xxl",
        "s3://bucket/path/to/cache",
        "http://127.0.0.1:5000",
        "a red circle moves right",
        "2026-11-23T19:32:19+00:00",
    ],
)
def test_what_is_no_secret_is_kept(value):
    assert redact({"value": value}) == {"value": value}


def test_a_url_keeps_its_place_and_loses_its_credentials():
    told = redact_text("from https://me:pw@host:8080/path?X-Amz-Signature=abc#frag on")
    assert told == f"from https://{HIDDEN}@host:8080/path?{HIDDEN} on"


@given(
    st.text(st.characters(codec="ascii", min_codepoint=33, exclude_characters="/?#"), min_size=1)
)
def test_no_login_survives_in_a_url(login):
    told = redact_text(f"s3://{login}@host/key")
    assert told == f"s3://{HIDDEN}@host/key"


def test_secret_keys_are_judged_by_their_last_part():
    assert is_secret_key("auth.token")
    assert not is_secret_key("auth.kind")
