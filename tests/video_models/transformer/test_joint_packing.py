"""Packed samples of a joint transformer compute what each computes alone; tokens may have times."""

import pytest
import torch
from diffusers import HunyuanVideoTransformer3DModel

from tests.video_models.transformer.tiny import relative_error
from tests.video_models.transformer.tiny_joint import VARIANTS, B, S, inputs_of, tiny
from video_models.formats.hunyuan_transformer import from_tree
from video_models.layers.attention import attend_plainly
from video_models.transformer.joint import JointTransformer

SIZES = [(3, 8, 6), (1, 4, 10), (2, 6, 4)]
"""A clip, a picture and another clip, in latents; frames in units of patches."""


def calls_on(model, **options):
    """Return the arguments of a call on each sample alone."""
    step = model.config.patch_size[0]
    calls = []
    for seed, (T, H, W) in enumerate(SIZES):
        latents, t, rest = inputs_of(model, (step * T, H, W), batch=1, seed=seed, **options)
        rest["text_mask"] = torch.arange(rest["text"].shape[1])[None] < 5 - seed
        calls.append((latents, t, rest))
    return calls


def pack(calls):
    """Return the arguments of one packed call from those of calls on one sample each."""
    rest = {}
    for key in calls[0][2]:
        values = [call[2][key] for call in calls]
        rest[key] = [value[0] for value in values] if key == "condition" else torch.cat(values)
    return [call[0][0] for call in calls], torch.cat([call[1] for call in calls]), rest


def alone_and_packed(model):
    calls = calls_on(model)
    latents, t, rest = pack(calls)
    return [model(x, t, **beside)[0] for x, t, beside in calls], model(latents, t, **rest)


def times_of(model, seed=0):
    """Return a time for each token of each sample."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.rand(T * H * W // 4, generator=draw) for T, H, W in SIZES]


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_sample_computes_what_it_computes_alone(variant):
    model = tiny(**VARIANTS[variant])
    with torch.no_grad():
        alone, packed = alone_and_packed(model)
    assert [v.shape for v in packed] == [v.shape for v in alone]
    assert max(map(relative_error, packed, alone)) < 1e-5


@pytest.mark.parametrize("variant", ["pooled text", "guidance", "only single blocks"])
def test_parameters_get_the_gradient_of_the_samples_alone(variant):
    # In float64, as gradients that are but rounding, of the keys' biases, would differ.
    model = tiny(**VARIANTS[variant]).double()
    calls = calls_on(model, dtype=torch.float64)
    latents, t, rest = pack(calls)
    gradients = []
    for packed in (False, True):
        model.zero_grad()
        out = model(latents, t, **rest) if packed else [model(x, t, **r)[0] for x, t, r in calls]
        sum(v.square().mean() for v in out).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    largest = max(gradient.abs().max() for gradient in gradients[0].values())
    for name, expected in gradients[0].items():
        error = (gradients[1][name] - expected).abs().max()
        assert error < 1e-5 * expected.abs().max().clamp_min(1e-9 * largest), name


def test_without_hidden_text_the_same_holds():
    model = tiny()
    calls = [(x, t, rest | {"text_mask": None}) for x, t, rest in calls_on(model)]
    latents, t, rest = pack([(x, t, {"text": rest["text"]}) for x, t, rest in calls])
    with torch.no_grad():
        alone = [model(x, t, **rest)[0] for x, t, rest in calls]
        packed = model(latents, t, **rest)
    assert max(map(relative_error, packed, alone)) < 1e-5


def test_a_sample_is_not_changed_by_those_beside_it():
    model = tiny()
    latents, t, rest = pack(calls_on(model))
    with torch.no_grad():
        before = model(latents, t, **rest)[0]
        other = rest | {"text": torch.cat((rest["text"][:1], 10 * rest["text"][1:]))}
        times = torch.cat((t[:1], t[1:] / 2))
        after = model([latents[0], *(10 * x for x in latents[1:])], times, **other)[0]
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize("packed", [False, True])
def test_one_time_for_all_tokens_is_that_time(packed):
    model = tiny(pooled_dim=10, guidance_embedding=True)
    latents, t, rest = pack(calls_on(model)) if packed else inputs_of(model)
    spread = (
        [time.expand(len(each)) for time, each in zip(t, times_of(model), strict=True)]
        if packed
        else t[:, None].expand(B, S)
    )
    with torch.no_grad():
        expected, found = model(latents, t, **rest), model(latents, spread, **rest)
    assert max(map(relative_error, found, expected)) < 1e-5


@pytest.mark.parametrize("variant", ["plain", "pooled text", "guidance"])
def test_every_token_of_a_packed_sample_may_have_its_own_time(variant):
    model = tiny(**VARIANTS[variant])
    calls, times = calls_on(model), times_of(model)
    latents, _, rest = pack(calls)
    with torch.no_grad():
        packed = model(latents, times, **rest)
        pairs = zip(calls, times, strict=True)
        alone = [model(x, t[None], **beside)[0] for (x, _, beside), t in pairs]
        changed = model(latents, [times[0], times[1] / 2, times[2]], **rest)
    assert max(map(relative_error, packed, alone)) < 1e-5
    assert torch.equal(changed[0], packed[0])
    assert relative_error(changed[1], packed[1]) > 1e-3


def test_a_pack_of_one_is_that_sample():
    model = tiny()
    latents, t, rest = inputs_of(model, batch=1)
    times = torch.rand(1, S)
    with torch.no_grad():
        for whole, single in ((t, t), (times, [times[0]])):
            (packed,) = model([latents[0]], single, **rest)
            torch.testing.assert_close(packed, model(latents, whole, **rest)[0], rtol=0, atol=0)


def test_tokens_after_a_block_are_those_of_the_videos_one_after_the_other():
    model = tiny()
    calls = calls_on(model)
    latents, t, rest = pack(calls)
    with torch.no_grad():
        _, packed = model(latents, t, **rest, features=(1, 3))
        alone = [model(x, t, **beside, features=(1, 3))[1] for x, t, beside in calls]
    for index in (1, 3):
        expected = torch.cat([tokens[index] for tokens in alone], dim=1)
        assert relative_error(packed[index], expected) < 1e-5


def test_a_prepared_text_serves_packed_samples_too():
    model = tiny(pooled_dim=10)
    latents, t, rest = pack(calls_on(model))
    with torch.no_grad():
        prepared = model.prepare(rest["text"], text_mask=rest["text_mask"], pooled=rest["pooled"])
        found = model(latents, t, prepared)
        again = model(latents, t, prepared)
        expected = model(latents, t, **rest)
    assert all(map(torch.equal, found, expected))
    assert all(map(torch.equal, again, expected))


def test_forward_mode_derivatives_by_the_times_of_tokens_are_right():
    model = tiny(pooled_dim=10, attention=attend_plainly).double()
    latents, _, rest = inputs_of(model, dtype=torch.float64)
    times, change, step = torch.rand(B, S).double(), torch.randn(B, S).double(), 1e-6

    def call(t):
        return model(latents, t, **rest)

    with torch.no_grad():
        _, slope = torch.func.jvp(call, (times,), (change,))
        expected = (call(times + step * change) - call(times - step * change)) / (2 * step)
    assert relative_error(slope, expected) < 1e-5


@torch.no_grad()
def test_frames_at_time_0_are_what_hunyuan_video_makes_of_an_image():
    """Its image to video keeps the first frame clean in the noisy clip ("token replace")."""
    torch.manual_seed(0)
    peer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, num_layers=2,
        num_single_layers=2, text_embed_dim=16, pooled_projection_dim=10, rope_axes_dim=(4, 4, 4),
        guidance_embeds=False, image_condition_type="token_replace",
    ).eval()  # fmt: skip
    for name, parameter in peer.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=0.5)
    ours = JointTransformer(from_tree({**peer.config, "image_condition_type": None})).eval()
    ours.load_state_dict(peer.state_dict())
    latents, t, rest = inputs_of(ours)
    theirs = peer(
        latents, t * 1000, rest["text"], rest["text_mask"], rest["pooled"], return_dict=False
    )[0]
    times = torch.where(torch.arange(S) < S // 3, 0.0, t[:, None])
    # What leaves the first frame is of no use; only there their last norm goes by the other time.
    assert relative_error(ours(latents, times, **rest)[:, :, 1:], theirs[:, :, 1:]) < 1e-5
    assert relative_error(ours(latents, t, **rest)[:, :, 1:], theirs[:, :, 1:]) > 1e-3
