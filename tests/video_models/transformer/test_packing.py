"""Samples of different shapes in one sequence compute what each computes alone."""

import pytest
import torch

from tests.video_models.transformer.tiny import VARIANTS, inputs_of, relative_error, tiny

SIZES = [(3, 8, 6), (1, 4, 10), (2, 6, 4)]
"""A clip, a picture and another clip, in latents."""


def pack(calls):
    """Return the arguments of one packed call from those of calls on one sample each."""
    latents = [call[0][0] for call in calls]
    t = torch.cat([call[1] for call in calls])
    rest = {}
    for key in calls[0][2]:
        values = [call[2][key] for call in calls]
        if key == "condition":
            rest[key] = [value[0] for value in values]
        elif isinstance(values[0], list):
            rest[key] = [torch.cat(each) for each in zip(*values, strict=True)]
        else:
            rest[key] = torch.cat(values)
    return latents, t, rest


def alone_and_packed(model, **options):
    calls = [
        inputs_of(model, size, batch=1, seed=seed, **options) for seed, size in enumerate(SIZES)
    ]
    alone = [model(latents, t, **rest)[0] for latents, t, rest in calls]
    latents, t, rest = pack(calls)
    return alone, model(latents, t, **rest)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_sample_computes_what_it_computes_alone(variant):
    model = tiny(**VARIANTS[variant])
    with torch.no_grad():
        alone, packed = alone_and_packed(model)
    assert [v.shape for v in packed] == [v.shape for v in alone]
    assert max(map(relative_error, packed, alone)) < 1e-5


@pytest.mark.parametrize("variant", ["plain", "windowed", "block modulation", "image tokens"])
def test_parameters_get_the_gradient_of_the_samples_alone(variant):
    model = tiny(**VARIANTS[variant])
    gradients = []
    for which in (0, 1):
        model.zero_grad()
        outputs = alone_and_packed(model)[which]
        sum(v.square().mean() for v in outputs).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, expected in gradients[0].items():
        assert relative_error(gradients[1][name], expected) < 1e-5, name


def test_a_sample_is_not_changed_by_those_beside_it():
    model = tiny()
    latents, t, rest = pack([inputs_of(model, size, batch=1, seed=3) for size in SIZES])
    with torch.no_grad():
        before = model(latents, t, **rest)[0]
        after = model([latents[0], *(10 * x for x in latents[1:])], t.clone(), **rest)[0]
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_every_sample_has_its_own_time_and_caption():
    model = tiny()
    latents, t, rest = pack([inputs_of(model, (1, 4, 4), batch=1, seed=3)] * 2)
    other_text = torch.cat((rest["text"][:1], rest["text"][1:] + 1))
    with torch.no_grad():
        same, same_too = model(latents, t, **rest)
        _, later = model(latents, t * torch.tensor([1.0, 0.5]), **rest)
        _, retold = model(latents, t, text=other_text)
    torch.testing.assert_close(same, same_too)
    assert relative_error(later, same) > 1e-3
    assert relative_error(retold, same) > 1e-3


def test_every_token_of_a_packed_sample_may_have_its_own_time():
    model = tiny(guidance_embedding=True)
    calls = [inputs_of(model, size, batch=1, seed=seed) for seed, size in enumerate(SIZES)]
    latents, _, rest = pack(calls)
    times = [torch.rand(x[0].numel() // 4) for x in latents]
    with torch.no_grad():
        packed = model(latents, times, **rest)
        alone = [
            model(x, t[None], **beside)[0] for (x, _, beside), t in zip(calls, times, strict=True)
        ]
    assert max(map(relative_error, packed, alone)) < 1e-5


def test_a_pack_of_one_is_that_sample():
    model = tiny()
    latents, t, rest = inputs_of(model, batch=1)
    with torch.no_grad():
        (packed,) = model([latents[0]], t, **rest)
        torch.testing.assert_close(packed, model(latents, t, **rest)[0], rtol=0, atol=0)
        times = torch.rand(latents[0, 0].numel() // 4)
        (packed,) = model([latents[0]], [times], **rest)
        expected = model(latents, times[None], **rest)[0]
    torch.testing.assert_close(packed, expected, rtol=0, atol=0)


def test_tokens_after_a_block_stand_one_sample_after_the_other():
    model = tiny()
    calls = [inputs_of(model, size, batch=1, seed=seed) for seed, size in enumerate(SIZES)]
    latents, t, rest = pack(calls)
    with torch.no_grad():
        _, packed = model(latents, t, **rest, features=(0,))
        alone = [model(x, t, **beside, features=(0,))[1][0] for x, t, beside in calls]
    assert relative_error(packed[0], torch.cat(alone, dim=1)) < 1e-5


@pytest.mark.parametrize("times", [2, 4])
def test_a_number_of_times_that_fits_neither_samples_nor_tokens_is_an_error(times):
    model = tiny()
    latents, _, rest = pack([inputs_of(model, size, batch=1, seed=3) for size in SIZES])
    with pytest.raises(ValueError, match=r"for 3 samples of \(36, 10, 12\) tokens"):
        model(latents, torch.rand(times), **rest)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("padding", ["zeros", "mask"])
def test_on_a_gpu_in_16_bits_one_kernel_computes_what_each_sample_computes_alone(padding):
    model = tiny(head_dim=32, text_padding=padding).to("cuda", torch.bfloat16)
    calls = [
        inputs_of(model, size, batch=1, seed=seed, dtype=torch.bfloat16)
        for seed, size in enumerate(SIZES)
    ]
    on_gpu = torch.utils._pytree.tree_map(lambda x: x.cuda(), calls)
    alone = [model(latents, t, **rest)[0] for latents, t, rest in on_gpu]
    latents, t, rest = pack(on_gpu)
    packed = model(latents, t, **rest)
    sum(v.square().mean() for v in packed).backward()
    assert (
        max(relative_error(a.float(), b.float()) for a, b in zip(packed, alone, strict=True)) < 2e-2
    )
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_more_captions_than_samples_are_an_error():
    model = tiny()
    latents, t, rest = pack([inputs_of(model, size, batch=1, seed=3) for size in SIZES])
    with pytest.raises(ValueError, match="4 captions for 3 samples"):
        model(latents, t, torch.cat((rest["text"], rest["text"][:1])))
