"""Wan's own transformer checkpoints open and compute what diffusers makes of them."""

import json

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

from tests.video_models.formats.wan_peers import call_ours, call_theirs, draw_inputs
from tests.video_models.transformer.tiny import relative_error
from video_models.formats import ModelFormatError, open_transformer, save_transformer

HEADS, HEAD_DIM, LAYERS, FFN, C = 2, 12, 2, 32, 4
D = HEADS * HEAD_DIM
TREE = {"_class_name": "WanModel", "num_heads": HEADS, "eps": 1e-5, "model_type": "t2v"}
KINDS = {
    "t2v": {},
    "i2v": {"in_channels": 2 * C + 4, "image_dim": 10},
    "flf2v": {"in_channels": 2 * C + 4, "image_dim": 10, "positions": 14},
    "i2v of Wan 2.2": {"in_channels": 2 * C + 4},
}


def original(*, in_channels=C, image_dim=None, positions=None, dim=D):
    """Return tensors under the names of Wan-Video/Wan2.1 `wan/modules/model.py`."""
    shapes = {"patch_embedding.weight": (dim, in_channels, 1, 2, 2), "patch_embedding.bias": (dim,)}

    def linear(name, inputs, outputs):
        shapes.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    def norm(name, width):
        shapes.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    linear("text_embedding.0", 16, dim)
    linear("text_embedding.2", dim, dim)
    linear("time_embedding.0", 32, dim)
    linear("time_embedding.2", dim, dim)
    linear("time_projection.1", dim, 6 * dim)
    linear("head.head", dim, 4 * C)
    shapes["head.modulation"] = (1, 2, dim)
    for index in range(LAYERS):
        block = f"blocks.{index}"
        for attention in ("self_attn", "cross_attn"):
            for letter in "qkvo":
                linear(f"{block}.{attention}.{letter}", dim, dim)
            for letter in "qk":
                shapes[f"{block}.{attention}.norm_{letter}.weight"] = (dim,)
        if image_dim:
            linear(f"{block}.cross_attn.k_img", dim, dim)
            linear(f"{block}.cross_attn.v_img", dim, dim)
            shapes[f"{block}.cross_attn.norm_k_img.weight"] = (dim,)
        norm(f"{block}.norm3", dim)
        linear(f"{block}.ffn.0", dim, FFN)
        linear(f"{block}.ffn.2", FFN, dim)
        shapes[f"{block}.modulation"] = (1, 6, dim)
    if image_dim:
        norm("img_emb.proj.0", image_dim)
        linear("img_emb.proj.1", image_dim, image_dim)
        linear("img_emb.proj.3", image_dim, dim)
        norm("img_emb.proj.4", dim)
    if positions:
        shapes["img_emb.emb_pos"] = (1, positions, image_dim)
    torch.manual_seed(0)
    return {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}


def peer_of(state, *, in_channels=C, image_dim=None, positions=None):
    """Return diffusers' model of Wan's tensors, by diffusers' own converter."""
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    peer = WanTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        in_channels=in_channels,
        out_channels=C,
        text_dim=16,
        freq_dim=32,
        ffn_dim=FFN,
        num_layers=LAYERS,
        eps=1e-5,
        image_dim=image_dim,
        added_kv_proj_dim=D if image_dim else None,
        pos_embed_seq_len=positions,
    )
    converted = {  # the converter leaves this one as it is
        name.replace("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"): tensor
        for name, tensor in convert_wan_transformer_to_diffusers(dict(state)).items()
    }
    peer.load_state_dict(converted)
    return peer.eval()


def write_sharded(state, folder):
    """Write two shards, their index and the config as Wan publishes them."""
    folder.mkdir()
    names, files = sorted(state), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, folder / file)
        files |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": files}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(TREE))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_sharded_download_computes_what_diffusers_makes_of_it(kind, tmp_path):
    state = original(**KINDS[kind])
    peer = peer_of(state, **KINDS[kind])
    ours, given = open_transformer(write_sharded(state, tmp_path / "wan")), draw_inputs(peer)
    assert relative_error(call_ours(ours, given), call_theirs(peer, given)) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_wans_is_saved_as_diffusers_has_it(kind, tmp_path):
    state = original(**KINDS[kind])
    peer = peer_of(state, **KINDS[kind])
    ours = open_transformer(write_sharded(state, tmp_path / "wan"))
    save_transformer(ours, tmp_path / "ours", format="diffusers")
    theirs = WanTransformer3DModel.from_pretrained(tmp_path / "ours")
    assert theirs.config.eps == 1e-5
    for name, tensor in peer.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], tensor)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_one_file_without_a_config_has_heads_of_128(ending, prefix, tmp_path):
    state = {prefix + name: x for name, x in original(dim=256).items()}
    file = tmp_path / f"wan.{ending}"
    torch.save(state, file) if ending == "pth" else save_file(state, file)
    model = open_transformer(file)
    assert (model.config.num_heads, model.config.head_dim) == (2, 128)
    assert (model.config.num_layers, model.config.ffn_dim) == (LAYERS, FFN)
    assert torch.equal(model.proj_out.weight, state[f"{prefix}head.head.weight"])


class Trap:
    def __reduce__(self):
        return print, ("sprung",)


def test_code_in_a_file_does_not_run(tmp_path, capsys):
    torch.save({"head.head.weight": Trap()}, tmp_path / "wan.pth")
    with pytest.raises(ModelFormatError, match="which could run code"):
        open_transformer(tmp_path / "wan.pth")
    assert "sprung" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vace_blocks.0.before_proj.weight": torch.ones(1)}, "'vace_blocks.*has no place"),
        ({"blocks.0.self_attn.q.lora.weight": torch.ones(1)}, "has no place"),
        ({"blocks.1.ffn.0.bias": torch.ones(3)}, "weights and config disagree"),
        ({"head.head.weight": None}, "'head.head.weight' is missing"),
        ({"blocks.1.ffn.0.bias": None}, "weights and config disagree"),
    ],
)
def test_a_checkpoint_that_does_not_fit_says_why(tmp_path, change, words):
    state = {name: x for name, x in (original() | change).items() if x is not None}
    folder = write_sharded(state, tmp_path / "wan")
    with pytest.raises(ModelFormatError, match=f"{folder.name}.*{words}"):
        open_transformer(folder)


def test_a_file_of_something_else_is_told(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelFormatError, match=r"x\.safetensors"):
        open_transformer(tmp_path / "x.safetensors")
