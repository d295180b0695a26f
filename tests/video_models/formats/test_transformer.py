"""Transformer folders open, save, and are exchanged with diffusers."""

import dataclasses
import json

import pytest
import torch
from diffusers import WanTransformer3DModel

from tests.video_models.formats.wan_peers import (
    CONFIG,
    PEERS,
    call_ours,
    call_theirs,
    draw_inputs,
    make_peer,
    pass_ours,
)
from tests.video_models.transformer.tiny import relative_error
from video_models.formats import ModelFormatError, open_transformer, save_transformer
from video_models.transformer.model import VideoTransformer


def tiny(**changes):
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, zero_init_output=False, **changes)
    return VideoTransformer(config).eval()


@pytest.fixture(params=PEERS)
def peer(request):
    return make_peer(request.param)


def open_peer(folder):
    """Open a folder by diffusers, which must miss no tensor and expect no other."""
    peer, report = WanTransformer3DModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return peer.eval()


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("format", ["native", "diffusers"])
def test_a_saved_model_opens_as_it_was(tmp_path, format):
    model = tiny()
    save_transformer(model, tmp_path / "model", format=format)
    opened = open_transformer(tmp_path / "model")
    assert opened.config == dataclasses.replace(model.config, zero_init_output=format != "native")
    for name, tensor in model.state_dict().items():
        assert torch.equal(opened.state_dict()[name], tensor)
    assert not opened.training
    assert all(parameter.requires_grad for parameter in opened.parameters())


def test_a_folder_of_diffusers_opens_and_computes_the_same(tmp_path, peer):
    peer.save_pretrained(tmp_path / "peer", max_shard_size="20KB")
    assert len(list((tmp_path / "peer").glob("*.safetensors"))) > 1
    ours, given = open_transformer(tmp_path / "peer"), draw_inputs(peer)
    assert relative_error(call_ours(ours, given), call_theirs(peer, given)) < 1e-5


def test_what_it_became_in_training_opens_in_diffusers(tmp_path, peer):
    peer.save_pretrained(tmp_path / "peer")
    ours, given = open_transformer(tmp_path / "peer"), draw_inputs(peer)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    pass_ours(ours, given).square().mean().backward()
    torch.optim.SGD(ours.parameters(), lr=0.1).step()
    assert all(not torch.equal(before[name], x) for name, x in ours.state_dict().items())
    save_transformer(ours, tmp_path / "ours", format="diffusers")
    theirs = open_peer(tmp_path / "ours")
    assert theirs.config.num_layers == peer.config.num_layers
    assert relative_error(call_ours(ours, given), call_theirs(theirs, given)) < 1e-5
    assert relative_error(call_theirs(peer, given), call_theirs(theirs, given)) > 1e-3


def test_the_config_that_is_written_is_the_one_that_was_read(tmp_path, peer):
    peer.save_pretrained(tmp_path / "peer")
    save_transformer(open_transformer(tmp_path / "peer"), tmp_path / "ours")
    theirs, ours = (
        {key: value for key, value in config.items() if not key.startswith("_")}
        for config in (
            WanTransformer3DModel.load_config(tmp_path / name) for name in ("peer", "ours")
        )
    )
    assert ours == theirs


def test_in_bfloat16_the_same_parts_stay_wide_as_in_diffusers(tmp_path, peer):
    peer.save_pretrained(tmp_path / "peer")
    half = WanTransformer3DModel.from_pretrained(tmp_path / "peer", torch_dtype=torch.bfloat16)
    ours = open_transformer(tmp_path / "peer", dtype=torch.bfloat16)
    theirs = {name: tensor.dtype for name, tensor in half.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in ours.state_dict().items()} == theirs
    assert {*theirs.values()} == {torch.float32, torch.bfloat16}
    given = draw_inputs(peer)
    exact, rough = call_theirs(peer, given), given.cast(torch.bfloat16)
    error = relative_error(call_ours(ours, rough).float(), exact)
    assert error <= 1.1 * relative_error(call_theirs(half.eval(), rough).float(), exact)


def test_a_model_of_16_bits_keeps_its_dtypes_on_disk(tmp_path, peer):
    peer.save_pretrained(tmp_path / "peer")
    ours = open_transformer(tmp_path / "peer", dtype=torch.bfloat16)
    save_transformer(ours, tmp_path / "ours")
    kept, wide = (
        open_transformer(tmp_path / "ours", dtype=None),
        open_transformer(tmp_path / "ours"),
    )
    for name, tensor in ours.state_dict().items():
        assert kept.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(wide.state_dict()[name], tensor.float())
        assert wide.state_dict()[name].dtype == torch.float32


@pytest.mark.parametrize(
    "changes",
    [
        {"text_padding": "mask"},
        {"guidance_embedding": True},
        {"absolute_positions": True},
        {"modulation": "block"},
        {"more_text_dims": (8,)},
        {"attention": "factorised"},
        {"qk_norm": "per_head"},
        {"extrapolation": "interpolation"},
    ],
)
def test_what_diffusers_cannot_express_is_kept_under_our_own_name(tmp_path, changes):
    model = tiny(**changes)
    (name,) = changes
    with pytest.raises(ModelFormatError, match=rf'{name}=.*format="native"'):
        save_transformer(model, tmp_path / "model", format="diffusers")
    assert not (tmp_path / "model").exists()
    save_transformer(model, tmp_path / "model")
    tree = json.loads((tmp_path / "model" / "config.json").read_text())
    assert tree["_class_name"] == "VideoTransformer"
    assert open_transformer(tmp_path / "model").config == model.config


def test_tensors_that_published_files_hold_in_vain_are_left_out(tmp_path):
    from safetensors.torch import load_file, save_file

    save_transformer(tiny(), tmp_path / "model")
    file = tmp_path / "model" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {"blocks.0.attn2.norm_added_q.weight": torch.ones(24)}, file)
    open_transformer(tmp_path / "model")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_dim": 10}, "added_kv_proj_dim None; they must be both null, or the latter 24"),
        ({"in_channels": 2}, "in_channels is 2, out_channels 4"),
        ({"num_layers": 2}, "weights and config disagree"),
        ({"_class_name": "FluxTransformer2DModel"}, "a transformer is one of .*WanTransformer3D"),
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


def test_an_unknown_format_is_an_error(tmp_path):
    with pytest.raises(ModelFormatError, match="format is 'onnx'; it is auto, native or diffusers"):
        save_transformer(tiny(), tmp_path / "model", format="onnx")
