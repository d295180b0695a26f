"""Several text encoders at once, and inputs that do not fit together."""

import dataclasses

import pytest
import torch

from tests.video_models.transformer.tiny import CONFIG, B, inputs_of, relative_error, tiny
from video_models.transformer.inputs import lay_out_numbers, lay_out_texts
from video_models.transformer.model import VideoTransformer

TWO = {"more_text_dims": (6,)}


def two_texts(padding):
    model = tiny(**TWO, text_padding=padding)
    latents, t, _ = inputs_of(model)
    texts = [torch.randn(B, 5, 16), torch.randn(B, 3, 6)]
    masks = [torch.arange(5) < torch.tensor([[5], [2]]), torch.arange(3) < torch.tensor([[1], [3]])]
    return model, latents, t, texts, masks


def test_the_first_encoder_keeps_the_published_names():
    torch.manual_seed(0)
    one = VideoTransformer(CONFIG).state_dict()
    torch.manual_seed(0)
    two = VideoTransformer(dataclasses.replace(CONFIG, **TWO)).state_dict()
    assert set(two) - set(one) == {
        f"condition_embedder.more_text_embedders.0.{layer}.{kind}"
        for layer in ("linear_1", "linear_2")
        for kind in ("weight", "bias")
    }
    assert set(one) <= set(two)


def test_hidden_tokens_of_each_encoder_change_nothing():
    model, latents, t, texts, masks = two_texts("mask")
    changed = [
        torch.where(mask[..., None], text, 7.0) for text, mask in zip(texts, masks, strict=True)
    ]
    with torch.no_grad():
        out = model(latents, t, texts, text_mask=masks)
        torch.testing.assert_close(model(latents, t, changed, text_mask=masks), out)
        alone = model(latents[:1], t[:1], [texts[0][:1], texts[1][:1, :1]])
    torch.testing.assert_close(out[:1], alone)


def test_the_order_of_the_tokens_does_not_matter_but_every_encoder_does():
    model, latents, t, texts, _ = two_texts("zeros")
    with torch.no_grad():
        out = model(latents, t, texts)
        turned = model(latents, t, [texts[0], texts[1].flip(1)])
        assert relative_error(turned, out) < 1e-6
        for changed in ([texts[0], texts[1] + 1], [texts[0] + 1, texts[1]]):
            assert relative_error(model(latents, t, changed), out) > 1e-3


def test_an_encoder_without_a_mask_is_seen_whole():
    config = dataclasses.replace(CONFIG, **TWO, text_padding="mask")
    mask = torch.tensor([[True, False]])
    _, seen = lay_out_texts(config, [torch.ones(1, 2, 16), torch.ones(1, 3, 6)], [mask, None])
    assert seen.tolist() == [[True, False, True, True, True]]


def test_zeros_stand_where_a_mask_hides():
    texts, seen = lay_out_texts(CONFIG, torch.ones(1, 2, 16), torch.tensor([[True, False]]))
    assert seen is None
    assert texts[0].sum(dim=-1).tolist() == [[16, 0]]


@pytest.mark.parametrize("given", [1, 3])
def test_more_or_fewer_texts_than_encoders_are_an_error(given):
    model, latents, t, _, _ = two_texts("zeros")
    with pytest.raises(ValueError, match=f"{given} texts .* those of 2 text encoders"):
        model(latents, t, [torch.zeros(B, 5, 16)] * given)


def test_a_single_mask_is_not_spread_over_several_encoders():
    model, latents, t, texts, masks = two_texts("mask")
    with pytest.raises(ValueError, match="2 texts and 1 masks"):
        model(latents, t, texts, text_mask=masks[:1])


def test_more_captions_than_samples_are_an_error():
    model = tiny()
    latents, t, rest = inputs_of(model)
    with pytest.raises(ValueError, match="2 captions for 1 samples"):
        model(latents[:1], t[:1], **rest)


@pytest.mark.parametrize(
    ("times", "samples", "lengths"),
    [
        (torch.zeros(2, 5), 2, (4,)),
        (torch.zeros(2), 1, (4,)),
        (torch.zeros(1), 2, (4,)),
        (torch.zeros(2), 3, (4, 4, 4)),
        (torch.zeros(2, 8), 2, (4, 4)),
        ([torch.zeros(4), torch.zeros(3)], 2, (4, 4)),
    ],
)
def test_times_for_neither_samples_nor_tokens_are_an_error(times, samples, lengths):
    with pytest.raises(ValueError, match="give one time a sample or one a token"):
        lay_out_numbers(times, None, samples=samples, lengths=lengths)
