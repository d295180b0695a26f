"""The discrete autoencoder: tokens in and out, causality, training, and going on."""

import copy

import pytest
import torch

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.quantiser_config import QuantiserConfig, TokenAutoencoderConfig
from video_models.autoencoder.tokens import TokenAutoencoder

BACKBONE = AutoencoderConfig(
    base_dim=8,
    latent_channels=4,
    dim_mult=(1, 2, 2),
    num_res_blocks=1,
    space_down=(True, False),
    time_down=(True, True),
)
QUANTISERS = {
    "fsq": QuantiserConfig(kind="fsq", levels=(8, 5, 5)),
    "lfq": QuantiserConfig(kind="lfq", num_bits=6, temperature=1.0),
    "vq": QuantiserConfig(kind="vq", num_codes=32, code_dim=3),
}


@pytest.fixture(params=QUANTISERS)
def model(request):
    torch.manual_seed(0)
    return TokenAutoencoder(
        TokenAutoencoderConfig(backbone=BACKBONE, quantiser=QUANTISERS[request.param])
    )


def clip_of(frames=5, *, batch=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, frames, 16, 32, generator=generator) * 2 - 1


def test_tokens_and_reconstruction_have_the_promised_shapes(model):
    for frames in (1, 5, 9):
        video = clip_of(frames, batch=2)
        reconstruction, code = model(video)
        assert code.indices.shape == (2, *BACKBONE.latent_shape(frames, 16, 32)[1:])
        assert reconstruction.shape == video.shape
        assert reconstruction.is_contiguous()
        assert code.bits().shape == (2,)


def test_tokens_are_all_that_the_decoder_needs(model):
    model.eval()
    video = clip_of(batch=2)
    with torch.no_grad():
        reconstruction, code = model(video)
        tokens = model.tokenise(video)
        assert torch.equal(tokens, code.indices)
        assert 0 <= tokens.min() <= tokens.max() < model.codebook_size
        assert torch.equal(model.decode_tokens(tokens), reconstruction)


def test_a_longer_clip_begins_with_the_shorter_clips_tokens_and_frames(model):
    model.eval()
    video = clip_of(9)
    with torch.no_grad():
        tokens = model.tokenise(video)
        assert torch.equal(tokens[:, :2], model.tokenise(video[:, :, :5]))
        torch.testing.assert_close(
            model.decode_tokens(tokens)[:, :, :5],
            model.decode_tokens(tokens[:, :2]),
            atol=1e-5,
            rtol=1e-5,
        )


@pytest.mark.parametrize("sizes", [(9,), (1, 4, 4), (2, 5, 2)])
def test_a_stream_gives_the_whole_clips_codes_and_video(model, sizes):
    model.eval()
    video = clip_of(9)
    with torch.no_grad():
        reconstruction, code = model(video)
    parts = [part.latents for part in model.encode_stream(video.split(sizes, dim=2))]
    torch.testing.assert_close(torch.cat(parts, dim=2), code.latents)
    streamed = torch.cat([*model.decode_stream(code.latents.split(1, dim=2))], dim=2)
    torch.testing.assert_close(streamed, reconstruction, atol=1e-5, rtol=1e-5)


def test_every_parameter_gets_a_gradient_through_the_codes(model):
    video = clip_of()
    reconstruction, _ = model(video)
    (reconstruction - video).square().mean().backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


def train(model, steps, *, optimizer=None):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=1e-2)
    uses = []
    for step in steps:
        video = clip_of(batch=2, seed=step)
        reconstruction, code = model(video)
        loss = (reconstruction - video).square().mean()
        loss = loss + 0.1 * sum(term.mean() for term in code.penalties().values()) / video.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        uses.append(model.update_codebook())
    return uses


def test_an_update_says_how_the_codebook_was_used(model):
    for use in train(model, range(3)):
        assert use.keys() == {"usage", "perplexity"}
        assert 0 < use["usage"] <= 1
        assert 1 <= use["perplexity"] <= use["usage"] * model.codebook_size + 1e-6


def test_training_goes_on_from_the_state_dict_bit_for_bit(model):
    train(model, range(2))
    again = TokenAutoencoder(model.config)
    again.load_state_dict(copy.deepcopy(model.state_dict()))
    assert train(model, range(2, 4)) == train(again, range(2, 4))
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_half_precision_runs(model):
    half = model.to(torch.bfloat16)
    video = clip_of().to(torch.bfloat16)
    reconstruction, code = half(video)
    assert reconstruction.dtype == torch.bfloat16
    assert half.decode_tokens(code.indices).dtype == torch.bfloat16


def test_noise_changes_nothing(model):
    model.eval()
    video = clip_of()
    assert torch.equal(model(video)[0], model(video, torch.randn(1, 4, 2, 8, 16))[0])


def test_block_names_name_modules_that_hold_almost_all_work(model):
    modules = dict(model.named_modules())
    named = sum(p.numel() for name in model.block_names() for p in modules[name].parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    assert 0.7 * total < named < total


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(ValueError, match=r"\(B, 3, T, H, W\)"):
        model.tokenise(torch.zeros(1, 4, 5, 16, 16))
    with pytest.raises(ValueError, match=r"allowed are 1 \+ 4 n frames"):
        model.tokenise(torch.zeros(1, 3, 4, 16, 16))
    with pytest.raises(ValueError, match=r"codes have shape \(B, \d, T, H, W\)"):
        model.decode(torch.zeros(1, 9, 2, 8, 8))
    with pytest.raises(ValueError, match=r"integers of shape \(B, T, H, W\), got torch.float32"):
        model.decode_tokens(torch.zeros(1, 2, 8, 8))
    size = model.codebook_size
    with pytest.raises(ValueError, match=rf"lie in 0 to {size}; .* has 0 to {size - 1}"):
        model.decode_tokens(torch.tensor([[[[0, size]]]]))
