"""Small JSON files that carry their own checksum."""

import pytest

from video_platform.errors import CorruptCacheError
from video_platform.latents.sealed import canonical_json, digest, seal, unseal

BODY = {"name": "häuser", "numbers": [1, 2.5, 1e-9], "nothing": None}


def test_what_was_sealed_is_read_back():
    body = unseal(seal(BODY), "a.json")
    assert body.pop("sha256") == digest(BODY)
    assert body == BODY


@pytest.mark.parametrize("body", [{}, {"a": 1}, {"z": 1}, {"a": 1, "z": {"sha256": "b"}}])
def test_the_checksum_may_stand_first_last_alone_or_between(body):
    assert unseal(seal(body), "a.json") == body | {"sha256": digest(body)}


def test_every_flipped_byte_is_found():
    data = seal(BODY)
    for place in range(len(data) - 1):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(CorruptCacheError, match=r"a\.json is damaged"):
            unseal(damaged, "a.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b"\xff", b'{"sha256": 1}'])
def test_anything_else_is_refused(data):
    with pytest.raises(CorruptCacheError):
        unseal(data, "a.json")


def test_equal_values_have_one_spelling():
    assert canonical_json({"b": 1, "a": [1, 2]}) == b'{"a":[1,2],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})
