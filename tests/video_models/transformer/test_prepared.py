"""What does not change between the steps of a sampler is computed once; nothing else changes."""

import pytest
import torch

from tests.video_models.transformer.tiny import VARIANTS, inputs_of, tiny
from video_models.diffusion.guidance import conditioned, guided
from video_models.diffusion.samplers import sample_euler
from video_models.diffusion.timesteps import sampling_grid
from video_models.text.batch import TextBatch
from video_models.transformer.prepared import PreparedTransformer


def prepared_call(model, latents, t, rest):
    given = {key: rest.pop(key) for key in ("text", "text_mask", "image") if key in rest}
    return model(latents, t, model.prepare(**given), **rest)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_prepared_text_computes_the_same_bit_for_bit(variant):
    model = tiny(**VARIANTS[variant])
    latents, t, rest = inputs_of(model)
    with torch.no_grad():
        expected = model(latents, t, **rest)
        out = prepared_call(model, latents, t, rest)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)


def test_one_preparation_serves_every_shape_and_time():
    model = tiny()
    _, _, rest = inputs_of(model)
    prepared = model.prepare(rest["text"])
    for size in ((3, 8, 6), (1, 4, 4), (3, 8, 6)):
        latents, t, _ = inputs_of(model, size)
        with torch.no_grad():
            expected = model(latents, t, rest["text"])
            torch.testing.assert_close(model(latents, t, prepared), expected, rtol=0, atol=0)


def test_gradients_reach_the_text_weights_through_a_preparation():
    model = tiny()
    latents, t, rest = inputs_of(model)
    model(latents, t, **rest).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    prepared_call(model, latents, t, rest).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


def counting(model):
    """Return how often each part that a preparation should spare is called from now on."""
    calls = dict.fromkeys(("text", "keys"), 0)
    parts = {
        "text": model.condition_embedder.text_embedder,
        "keys": model.blocks[1].attn2.to_k,
    }
    for name, module in parts.items():
        module.register_forward_hook(
            lambda *_, name=name: calls.update({name: calls[name] + 1}),
        )
    return calls


def texts_of(model, batch):
    _, _, rest = inputs_of(model, batch=batch)
    mask = rest.get("text_mask")
    mask = torch.ones(rest["text"].shape[:2], dtype=torch.bool) if mask is None else mask[0]
    return TextBatch(embeddings=rest["text"], mask=mask)


@pytest.mark.parametrize("padding", ["zeros", "mask"])
def test_a_guided_sampler_prepares_its_texts_once(padding):
    model = tiny(text_padding=padding)
    noise, _, _ = inputs_of(model)
    text, empty = texts_of(model, 2), texts_of(model, 1)
    grid = sampling_grid(4, shift=3.0)
    with torch.no_grad():
        expected = sample_euler(guided(model, text, empty, 4.0), noise, grid)
        calls = counting(model)
        network = PreparedTransformer(model)
        out = sample_euler(guided(network, text, empty, 4.0), noise, grid)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    assert calls == {"text": 1, "keys": 1}


def test_another_text_is_prepared_by_itself():
    model = tiny()
    latents, t, _ = inputs_of(model)
    network = PreparedTransformer(model)
    first, second = texts_of(model, 2), texts_of(model, 2)
    second.embeddings.neg_()
    with torch.no_grad():
        for text in (first, second, first):
            expected = conditioned(model, text)(latents, t)
            torch.testing.assert_close(
                conditioned(network, text)(latents, t), expected, rtol=0, atol=0
            )


def test_mask_and_image_belong_to_the_preparation():
    model = tiny(image_dim=10)
    latents, t, rest = inputs_of(model)
    prepared = model.prepare(**rest)
    with pytest.raises(ValueError, match="a prepared text has its mask and image"):
        model(latents, t, prepared, image=rest["image"])


def test_a_preparation_for_other_samples_is_an_error():
    model = tiny()
    latents, t, rest = inputs_of(model)
    with pytest.raises(ValueError, match="2 captions for 1 samples"):
        model(latents[:1], t[:1], model.prepare(**rest))
