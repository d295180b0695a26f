"""A text config says what is wrong with it."""

import pytest

from video_models.text.config import TextConfig


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"path": "somewhere"}, "the words encoder has no files"),
        ({"kind": "t5"}, "a t5 encoder needs path"),
        ({"kind": "clip", "path": "x", "dim": 64}, "that of its weights"),
        ({"dim": 3}, "even"),
        ({"output": "pooled"}, "a words encoder gives only tokens"),
        ({"compute": "bfloat16"}, "always float32"),
        ({"name": "../up"}, r"name is '\.\./up'"),
    ],
)
def test_a_wrong_value_is_named(values, words):
    with pytest.raises(ValueError, match=words):
        TextConfig(**values)


def test_an_encoder_is_called_by_its_kind_unless_it_has_a_name():
    assert TextConfig().layer == "words"
    assert TextConfig(name="captions").layer == "captions"
