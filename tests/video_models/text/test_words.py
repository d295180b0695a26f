"""Word-hash vectors: fixed for ever, told apart by word, order and seed."""

import torch

from video_models.text.config import TextConfig
from video_models.text.encoder import open_text_encoder
from video_models.text.words import split_words, word_vector


def encode(*captions, **config):
    return open_text_encoder(TextConfig(**config)).encode(captions)


def test_the_vector_of_a_word_never_changes():
    # Written down once: caches on disk depend on these numbers.
    expected = torch.tensor([-0.1963335, 1.2473817, -0.3072188, -1.7262866])
    torch.testing.assert_close(word_vector("red", dim=4, seed=0), expected, rtol=0, atol=1e-6)


def test_a_caption_is_its_words_and_an_end_token():
    (tokens,) = encode("a red circle moves left")
    assert tokens.shape == (6, 64)
    assert tokens.dtype == torch.float32


def test_the_empty_caption_is_the_end_token_alone():
    (tokens,) = encode("")
    assert tokens.shape == (1, 64)


def test_captions_differ_where_their_words_differ():
    red, blue = encode("a red circle", "a blue circle")
    assert (red != blue).any(dim=1).tolist() == [False, True, False, False]


def test_the_order_of_words_is_seen():
    one, other = encode("red blue", "blue red")
    assert not torch.equal(one.sum(0), other.flip(0).sum(0)) or not torch.equal(one[0], other[1])
    assert not torch.equal(one[0], other[1])


def test_upper_case_and_spaces_are_not_seen_and_punctuation_is_a_word():
    assert split_words("A  Red\tcircle, moving.") == ["a", "red", "circle", ",", "moving", "."]


def test_a_long_caption_is_cut_and_keeps_its_end():
    (tokens,) = encode("one two three four five", max_tokens=3)
    (short,) = encode("one two", max_tokens=3)
    assert torch.equal(tokens, short)


def test_words_of_one_seed_are_far_apart_and_of_unit_variance():
    vectors = torch.stack([word_vector(f"word{i}", dim=64, seed=0) for i in range(200)])
    assert abs(vectors.var().item() - 1) < 0.05
    cosines = torch.nn.functional.normalize(vectors, dim=1) @ vectors.T / vectors.norm(dim=1)
    assert cosines.fill_diagonal_(0).abs().max() < 0.6


def test_the_identity_names_all_that_decides_the_embeddings():
    base = open_text_encoder(TextConfig()).identity
    assert base == {"name": "words", "version": 1, "dim": 64, "seed": 0, "max_tokens": 16}
    for change in ({"seed": 1}, {"dim": 32}, {"max_tokens": 8}):
        assert open_text_encoder(TextConfig(**change)).identity != base
    assert not torch.equal(encode("red")[0], encode("red", seed=1)[0])


def test_a_name_changes_no_embedding():
    plain, named = open_text_encoder(TextConfig()), open_text_encoder(TextConfig(name="captions"))
    assert (plain.name, named.name) == ("words", "captions")
    assert plain.identity == named.identity
