"""Adapter files are exchanged with diffusers and PEFT, and both sides compute the same."""

import json

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from video_models.formats import (
    ModelFormatError,
    open_lora,
    open_transformer,
    save_lora,
    save_transformer,
)
from video_models.transformer.lora import add_lora, lora_layers, lora_state

peft = pytest.importorskip("peft")

PEER = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
}
TARGETS = ["to_q", "to_out.0", "ffn.net.2", "proj_out"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Give a folder with a transformer that both sides open."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base") / "transformer"
    WanTransformer3DModel(**PEER).save_pretrained(folder)
    return folder


def theirs(base):
    return WanTransformer3DModel.from_pretrained(base).eval()


def ours(base):
    """Return our model with adapters off zero."""
    model = open_transformer(base)
    add_lora(model, rank=3, alpha=6.0, targets=TARGETS)
    torch.manual_seed(1)
    for _, layer in lora_layers(model):
        torch.nn.init.normal_(layer.lora_B.weight, std=0.2)
    return model


def run_ours(model):
    latents, t, text = inputs()
    with torch.no_grad():
        return model(latents, t, text)


def run_theirs(model):
    latents, t, text = inputs()
    with torch.no_grad():
        return model(latents, t * 1000, text, return_dict=False)[0]


def inputs():
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn(2, 4, 3, 8, 6, generator=generator),
        torch.rand(2, generator=generator),
        torch.randn(2, 5, 16, generator=generator),
    )


def assert_same(one, other, base):
    """Both are equal, and not what the model computes without adapters."""
    without = run_theirs(theirs(base))
    assert (one - other).norm() <= 1e-5 * other.norm()
    assert (one - without).norm() > 1e-2 * without.norm()


def test_diffusers_loads_what_was_saved(base, tmp_path):
    model = ours(base)
    save_lora(model, tmp_path / "lora")
    peer = theirs(base)
    peer.load_lora_adapter(tmp_path / "lora", prefix="transformer", use_safetensors=True)
    assert_same(run_theirs(peer), run_ours(model), base)


def test_a_pipeline_of_diffusers_loads_what_was_saved(base, tmp_path):
    from diffusers import WanPipeline

    model, peer = ours(base), theirs(base)
    save_lora(model, tmp_path / "lora")
    state, metadata = WanPipeline.lora_state_dict(tmp_path / "lora", return_lora_metadata=True)
    WanPipeline.load_lora_into_transformer(state, transformer=peer, metadata=metadata)
    assert_same(run_theirs(peer), run_ours(model), base)


def test_peft_loads_what_was_saved(base, tmp_path):
    model = ours(base)
    save_lora(model, tmp_path / "lora", format="peft")
    peer = peft.PeftModel.from_pretrained(theirs(base), tmp_path / "lora").eval()
    assert_same(run_theirs(peer), run_ours(model), base)
    config = peft.LoraConfig.from_pretrained(tmp_path / "lora")
    assert (config.r, config.lora_alpha) == (3, 6.0)


@pytest.fixture(params=["diffusers", "peft", "rank-stabilised"])
def published(request, base, tmp_path):
    """Give the model of another library with adapters, and the folder that it saved them to."""
    config = peft.LoraConfig(
        r=4,
        lora_alpha=2,
        target_modules=TARGETS,
        rank_pattern={"ffn.net.2": 2},
        alpha_pattern={"attn1.to_q": 8},
        init_lora_weights=False,
        use_rslora=request.param == "rank-stabilised",
    )
    torch.manual_seed(3)
    peer = theirs(base)
    if request.param == "peft":
        wrapped = peft.get_peft_model(peer, config)
        wrapped.save_pretrained(tmp_path / "lora")
        return wrapped, tmp_path / "lora"
    peer.add_adapter(config)
    peer.save_lora_adapter(tmp_path / "lora")
    return peer, tmp_path / "lora"


def test_ours_opens_what_diffusers_and_peft_saved(published, base):
    peer, folder = published
    model = open_transformer(base)
    open_lora(model, folder)
    assert_same(run_ours(model), run_theirs(peer), base)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(
        lora_state(model)
    )


def test_several_ranks_are_written_as_they_were_read(published, base, tmp_path):
    peer, folder = published
    model = open_transformer(base)
    open_lora(model, folder)
    save_lora(model, tmp_path / "again")
    other = theirs(base)
    other.load_lora_adapter(tmp_path / "again", prefix="transformer", use_safetensors=True)
    assert_same(run_theirs(other), run_theirs(peer), base)


@pytest.mark.parametrize("format", ["diffusers", "peft"])
def test_adapters_come_back_bit_for_bit(base, tmp_path, format):
    model = ours(base)
    save_lora(model, tmp_path / "lora", format=format)
    save_lora(model, tmp_path / "lora", format=format)  # in place of the first
    opened = open_transformer(base)
    open_lora(opened, tmp_path / "lora")
    assert torch.equal(run_ours(opened), run_ours(model))
    assert [x.alpha for _, x in lora_layers(opened)] == [x.alpha for _, x in lora_layers(model)]


def test_adapters_without_settings_count_once(base, tmp_path):
    model = ours(base)
    save_file(lora_state(model), tmp_path / "lora.safetensors")
    peer = theirs(base)
    peer.load_lora_adapter(load_file(tmp_path / "lora.safetensors"), prefix=None)
    opened = open_transformer(base)
    open_lora(opened, tmp_path / "lora.safetensors")
    assert_same(run_ours(opened), run_theirs(peer), base)


@pytest.mark.parametrize("style", ["diffusion_model", "kohya"])
def test_adapters_under_wans_own_names_open(base, tmp_path, style):
    from diffusers import WanPipeline

    torch.manual_seed(4)
    state = {}
    for name in ("self_attn.q", "self_attn.o", "cross_attn.v"):
        for index in range(PEER["num_layers"]):
            down, up = torch.randn(3, 24), torch.randn(24, 3) * 0.3
            layer = f"diffusion_model.blocks.{index}.{name}"
            if style == "kohya":
                state |= {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
                state[f"{layer}.alpha"] = torch.tensor(1.5)
            else:
                state |= {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
    save_file(state, tmp_path / "lora.safetensors")
    model, peer = open_transformer(base), theirs(base)
    open_lora(model, tmp_path / "lora.safetensors")
    converted = WanPipeline.lora_state_dict(tmp_path, weight_name="lora.safetensors")
    WanPipeline.load_lora_into_transformer(converted, transformer=peer)
    assert_same(run_ours(model), run_theirs(peer), base)


def test_a_merged_model_is_an_ordinary_folder_of_diffusers(base, tmp_path):
    from video_models.transformer.lora import merge_lora

    model = ours(base)
    expected = run_ours(model)
    merge_lora(model)
    save_transformer(model, tmp_path / "merged")
    assert_same(run_theirs(theirs(tmp_path / "merged")), expected, base)


def state_of(base):
    return {f"transformer.{name}": tensor for name, tensor in lora_state(ours(base)).items()}


NAME = "transformer.blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        ({"blocks.9.attn1.to_q.lora_A.weight": torch.zeros(2, 24)}, {}, "one matrix of two"),
        ({f"{NAME}.lora_A.weight": torch.zeros(3, 7)}, {}, r"shapes \(3, 7\) and \(24, 3\)"),
        ({f"{NAME}.lora_magnitude_vector": torch.zeros(24)}, {}, "lora_magnitude_vector"),
        ({}, {"use_dora": True}, "no DoRA here"),
        (
            {
                "norm_out.lora_A.weight": torch.zeros(2, 24),
                "norm_out.lora_B.weight": torch.zeros(24, 2),
            },
            {},
            "adapts norm_out, and the model has no such linear layer",
        ),
    ],
)
def test_a_file_that_does_not_fit_says_why(base, tmp_path, change, settings, words):
    header = {"lora_adapter_metadata": json.dumps(settings)}
    save_file(state_of(base) | change, tmp_path / "x.safetensors", metadata=header)
    model = open_transformer(base)
    with pytest.raises(ModelFormatError, match=words):
        open_lora(model, tmp_path / "x.safetensors")
    assert not any(lora_layers(model))


def test_places_without_adapters_say_so(base, tmp_path):
    with pytest.raises(ModelFormatError, match="holds no adapters"):
        open_lora(open_transformer(base), tmp_path)
    with pytest.raises(ModelFormatError, match="the model has no adapters"):
        save_lora(open_transformer(base), tmp_path / "lora")
    with pytest.raises(ModelFormatError, match="format is 'kohya'"):
        save_lora(ours(base), tmp_path / "lora", format="kohya")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelFormatError, match="is damaged"):
        open_lora(open_transformer(base), tmp_path / "x.safetensors")
    with pytest.raises(ModelFormatError, match="has adapters already"):
        save_lora(ours(base), tmp_path / "lora")
        open_lora(ours(base), tmp_path / "lora")
