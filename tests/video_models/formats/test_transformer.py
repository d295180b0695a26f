"""Transformer folders open, save, and are exchanged with diffusers."""

import dataclasses
import json

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from video_models.formats import ModelFormatError, open_transformer, save_transformer
from video_models.transformer.config import TransformerConfig
from video_models.transformer.model import VideoTransformer

CONFIG = TransformerConfig(
    latent_channels=4,
    text_dim=16,
    num_heads=2,
    head_dim=12,
    ffn_dim=32,
    num_layers=1,
    freq_dim=32,
    zero_init_output=False,
)


def tiny(**changes):
    torch.manual_seed(0)
    return VideoTransformer(dataclasses.replace(CONFIG, **changes)).eval()


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return torch.randn(2, 4, 3, 8, 6), torch.rand(2), torch.randn(2, 5, 16)


def run(model, inputs):
    latents, t, text = inputs
    with torch.no_grad():
        return model(latents, t, text)


def test_a_saved_model_opens_as_it_was(tmp_path, inputs):
    model = tiny()
    save_transformer(model, tmp_path / "model")
    opened = open_transformer(tmp_path / "model")
    torch.testing.assert_close(run(opened, inputs), run(model, inputs), rtol=0, atol=0)
    assert opened.config == dataclasses.replace(model.config, zero_init_output=True)
    assert not opened.training


@pytest.mark.parametrize(
    "changes",
    [{"text_padding": "mask"}, {"guidance_embedding": True}, {"absolute_positions": True}],
)
def test_what_diffusers_cannot_express_is_kept_under_our_own_name(tmp_path, changes):
    model = tiny(**changes)
    save_transformer(model, tmp_path / "model")
    tree = json.loads((tmp_path / "model" / "config.json").read_text())
    assert tree["_class_name"] == "VideoTransformer"
    assert open_transformer(tmp_path / "model").config == model.config


def test_a_diffusers_folder_opens_and_computes_the_same(tmp_path, inputs):
    latents, t, text = inputs
    torch.manual_seed(0)
    peer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
    )
    peer.save_pretrained(tmp_path / "peer", max_shard_size="20KB")
    assert len(list((tmp_path / "peer").glob("*.safetensors"))) > 1
    ours = open_transformer(tmp_path / "peer")
    with torch.no_grad():
        expected = peer(latents, t * 1000, text, return_dict=False)[0]
    assert (run(ours, inputs) - expected).norm() / expected.norm() < 1e-5


def test_diffusers_opens_what_was_saved(tmp_path, inputs):
    latents, t, text = inputs
    model = tiny()
    save_transformer(model, tmp_path / "model")
    # from_pretrained does these two lines, but not for this class without accelerate.
    peer = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(tmp_path / "model"))
    peer.load_state_dict(load_file(tmp_path / "model" / "diffusion_pytorch_model.safetensors"))
    with torch.no_grad():
        theirs = peer(latents, t * 1000, text, return_dict=False)[0]
    expected = run(model, inputs)
    assert (theirs - expected).norm() / expected.norm() < 1e-5


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_dim": 1280}, "image_dim is 1280; image-to-video models are not supported"),
        ({"out_channels": 8}, "out_channels 8; they must be the same"),
        ({"num_layers": 2}, "weights and config disagree"),
        ({"_class_name": "FluxTransformer2DModel"}, "a transformer is WanTransformer3DModel"),
    ],
)
def test_a_folder_that_cannot_be_opened_says_why(tmp_path, changes, words):
    save_transformer(tiny(), tmp_path / "model")
    rewrite(tmp_path / "model", **changes)
    with pytest.raises(ModelFormatError, match=words):
        open_transformer(tmp_path / "model")


def test_an_unknown_key_in_our_own_config_is_an_error(tmp_path):
    save_transformer(tiny(text_padding="mask"), tmp_path / "model")
    rewrite(tmp_path / "model", num_experts=8)
    with pytest.raises(ModelFormatError, match="num_experts"):
        open_transformer(tmp_path / "model")
