"""HunyuanVideo's transformer opens, computes what diffusers computes, and opens there again."""

import dataclasses
import json

import pytest
import torch
from diffusers import HunyuanVideoTransformer3DModel

from tests.video_models.transformer import tiny_joint
from tests.video_models.transformer.tiny import relative_error
from tests.video_models.transformer.tiny_joint import inputs_of
from video_models.formats import (
    ModelFormatError,
    open_lora,
    open_transformer,
    save_lora,
    save_transformer,
)
from video_models.transformer.joint import JointTransformer
from video_models.transformer.lora import add_lora, lora_layers
from video_models.transformer.model import VideoTransformer

BASE = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_layers": 2,
    "num_single_layers": 2,
    "text_embed_dim": 16,
    "pooled_projection_dim": 10,
    "rope_axes_dim": (4, 4, 4),
}
PEERS = {
    "text to video": {},
    "not distilled": {"guidance_embeds": False, "mlp_ratio": 3.0},
    "image to video": {"in_channels": 9, "image_condition_type": "latent_concat"},
    "another shape": {"patch_size_t": 3, "rope_axes_dim": (2, 4, 6), "num_refiner_layers": 1},
}
SHIFTS_ALL_KEYS = ("refiner_blocks.0.attn.to_k.bias", "refiner_blocks.1.attn.to_k.bias")
"""Attention does not depend on these where keys are not normalised: gradients are rounding."""
EXPRESSIBLE = {"pooled_dim": 10, "rope_axes": (4, 4, 4)}


@pytest.fixture(params=PEERS)
def peer(request):
    torch.manual_seed(0)
    peer = HunyuanVideoTransformer3DModel(**BASE | PEERS[request.param]).eval()
    for name, parameter in peer.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=0.5)
    return peer


@torch.no_grad()
def call_both(ours, peer):
    latents, t, rest = inputs_of(ours)
    beside = rest.get("condition")
    guidance = rest.get("guidance")
    theirs = peer(
        latents if beside is None else torch.cat((latents, beside), dim=1),
        t * 1000,
        rest["text"],
        rest["text_mask"],
        rest["pooled"],
        None if guidance is None else guidance * 1000,
        return_dict=False,
    )[0]
    return ours(latents, t, **rest), theirs


def open_peer(folder):
    """Open a folder by diffusers, which must miss no tensor and expect no other."""
    peer, report = HunyuanVideoTransformer3DModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return peer.eval()


def test_a_folder_of_diffusers_opens_and_computes_the_same(tmp_path, peer):
    peer.save_pretrained(tmp_path / "peer", max_shard_size="20KB")
    assert len(list((tmp_path / "peer").glob("*.safetensors"))) > 1
    ours = open_transformer(tmp_path / "peer", JointTransformer)
    out, expected = call_both(ours, peer)
    assert relative_error(out, expected) < 1e-5


def test_gradients_are_those_of_diffusers(tmp_path, peer):
    peer.save_pretrained(tmp_path / "peer")
    ours = open_transformer(tmp_path / "peer")
    with torch.enable_grad():
        out, expected = call_both.__wrapped__(ours, peer)
    out.square().sum().backward()
    expected.square().sum().backward()
    theirs = dict(peer.named_parameters())
    for name, parameter in ours.named_parameters():
        if not name.endswith(SHIFTS_ALL_KEYS):
            assert relative_error(parameter.grad, theirs[name].grad) < 1e-4, name


def test_what_it_became_in_training_opens_in_diffusers(tmp_path, peer):
    peer.save_pretrained(tmp_path / "peer")
    ours = open_transformer(tmp_path / "peer")
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    latents, t, rest = inputs_of(ours)
    ours(latents, t, **rest).square().mean().backward()
    torch.optim.Adam(ours.parameters(), lr=0.01).step()
    assert all(not torch.equal(before[name], x) for name, x in ours.state_dict().items())
    save_transformer(ours, tmp_path / "ours", format="diffusers")
    out, theirs = call_both(ours, open_peer(tmp_path / "ours"))
    assert relative_error(out, theirs) < 1e-5
    assert relative_error(call_both(ours, peer)[1], theirs) > 1e-3
    configs = [
        {key: value for key, value in json.loads(text).items() if not key.startswith("_")}
        for text in ((tmp_path / name / "config.json").read_text() for name in ("peer", "ours"))
    ]
    assert configs[0] == configs[1]


def test_in_bfloat16_it_is_as_exact_as_diffusers(tmp_path, peer):
    peer.save_pretrained(tmp_path / "peer")
    exact = call_both(open_transformer(tmp_path / "peer"), peer)[1]
    half = HunyuanVideoTransformer3DModel.from_pretrained(
        tmp_path / "peer", torch_dtype=torch.bfloat16
    ).eval()
    ours = open_transformer(tmp_path / "peer", dtype=torch.bfloat16)
    theirs = {name: tensor.dtype for name, tensor in half.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in ours.state_dict().items()} == theirs
    latents, t, rest = inputs_of(ours)
    cast = {name: x if x.dtype == torch.bool else x.bfloat16() for name, x in rest.items()}
    if "guidance" in rest:
        cast["guidance"] = rest["guidance"]
    with torch.no_grad():
        out = ours(latents.bfloat16(), t, **cast)
        beside = (latents, rest["condition"]) if "condition" in rest else (latents,)
        theirs = half(
            torch.cat(beside, dim=1).bfloat16(),
            t * 1000,
            cast["text"],
            rest["text_mask"],
            cast["pooled"],
            rest["guidance"] * 1000 if "guidance" in rest else None,
            return_dict=False,
        )[0]
    assert out.dtype == torch.bfloat16
    assert relative_error(out.float(), exact) <= 1.1 * relative_error(theirs.float(), exact)


@pytest.mark.parametrize(
    "changes",
    [
        {"pooled_dim": None},
        {"rope_axes": None},
        {"num_refiner_layers": 0},
        {"patch_size": (1, 2, 1)},
    ],
)
def test_what_diffusers_cannot_express_is_kept_under_our_own_name(tmp_path, changes):
    model = tiny_joint.tiny(**EXPRESSIBLE | changes)
    (name,) = changes
    with pytest.raises(ModelFormatError, match=rf"no HunyuanVideo transformer with {name}="):
        save_transformer(model, tmp_path / "model", format="diffusers")
    save_transformer(model, tmp_path / "model")
    tree = json.loads((tmp_path / "model" / "config.json").read_text())
    assert tree["_class_name"] == "JointTransformer"
    opened = open_transformer(tmp_path / "model")
    assert opened.config == model.config
    for key, tensor in model.state_dict().items():
        assert torch.equal(opened.state_dict()[key], tensor)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"qk_norm": "layer_norm"}, "qk_norm is 'layer_norm'"),
        ({"image_condition_type": "token_replace"}, "'token_replace'; null and"),
        ({"num_single_layers": 1}, "weights and config disagree"),
        ({"rope_axes_dim": [4, 4, 6]}, "add up to head_dim"),
    ],
)
def test_a_folder_that_cannot_be_opened_says_why(tmp_path, changes, words):
    save_transformer(tiny_joint.tiny(**EXPRESSIBLE), tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelFormatError, match=words):
        open_transformer(tmp_path / "model")


def test_a_model_of_the_other_family_is_told(tmp_path):
    save_transformer(tiny_joint.tiny(**EXPRESSIBLE), tmp_path / "model")
    with pytest.raises(ModelFormatError, match=r"holds a JointTransformer; .* a VideoTransformer"):
        open_transformer(tmp_path / "model", VideoTransformer)


def test_the_config_is_the_same_after_a_round_trip(tmp_path):
    config = tiny_joint.tiny(**EXPRESSIBLE).config
    save_transformer(tiny_joint.tiny(**EXPRESSIBLE), tmp_path / "model")
    opened = open_transformer(tmp_path / "model").config
    assert opened == dataclasses.replace(config, zero_init_output=True)


def test_adapters_are_exchanged_with_diffusers(tmp_path):
    pytest.importorskip("peft")
    torch.manual_seed(0)
    HunyuanVideoTransformer3DModel(**BASE).save_pretrained(tmp_path / "base")
    model = open_transformer(tmp_path / "base", JointTransformer)
    peer = open_peer(tmp_path / "base")
    without = call_both(model, peer)[1]
    add_lora(model, rank=3, targets=("to_q", "add_k_proj", "proj_mlp", "proj_out"))
    for _, layer in lora_layers(model):
        torch.nn.init.normal_(layer.lora_B.weight, std=0.2)
    save_lora(model, tmp_path / "lora")
    peer.load_lora_adapter(tmp_path / "lora", prefix="transformer", use_safetensors=True)
    out, theirs = call_both(model, peer)
    assert relative_error(out, theirs) < 1e-5
    assert relative_error(theirs, without) > 1e-2
    again = open_transformer(tmp_path / "base")
    open_lora(again, tmp_path / "lora")
    assert torch.equal(call_both(again, peer)[0], out)
