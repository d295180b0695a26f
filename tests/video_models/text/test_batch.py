"""Padding and leaving captions out."""

import pytest
import torch

from video_models.text.batch import drop_captions, join, pad_text


def captions(*lengths):
    torch.manual_seed(0)
    return [torch.randn(length, 3) for length in lengths]


def test_padding_is_zeros_and_masked():
    first, second = captions(2, 4)
    text = pad_text([first, second], 5)
    assert text.embeddings.shape == (2, 5, 3)
    assert text.mask.sum(dim=1).tolist() == [2, 4]
    assert torch.equal(text.embeddings[0, :2], first)
    assert torch.equal(text.embeddings[1, :4], second)
    assert not text.embeddings[~text.mask].any()


def test_a_caption_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="a caption has 4 tokens; the batch takes 3"):
        pad_text(captions(2, 4), 3)


def test_a_dropped_caption_is_the_empty_one():
    text, empty = pad_text(captions(2, 4, 3), 5), pad_text(captions(1), 5)
    dropped = drop_captions(text, empty, torch.tensor([False, True, False]))
    assert torch.equal(dropped.embeddings[1], empty.embeddings[0])
    assert torch.equal(dropped.mask[1], empty.mask[0])
    for kept in (0, 2):
        assert torch.equal(dropped.embeddings[kept], text.embeddings[kept])
        assert torch.equal(dropped.mask[kept], text.mask[kept])


def test_batches_join_and_split():
    one, other = pad_text(captions(2), 5), pad_text(captions(4, 3), 5)
    both = join(one, other)
    assert len(both) == 3
    assert torch.equal(both[1:].embeddings, other.embeddings)
    assert torch.equal(both[torch.tensor([0])].mask, one.mask)


def test_moving_changes_the_dtype_of_embeddings_only():
    text = pad_text(captions(2), 5).to("cpu", torch.bfloat16)
    assert text.embeddings.dtype == torch.bfloat16
    assert text.mask.dtype == torch.bool
