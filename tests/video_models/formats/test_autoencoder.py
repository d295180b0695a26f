"""Autoencoder folders, ours and diffusers', and what is no such folder."""

import dataclasses
import json

import pytest
import torch

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.quantiser_config import QuantiserConfig, TokenAutoencoderConfig
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.formats import fingerprint, open_autoencoder, save_autoencoder
from video_models.formats.folder import ModelFormatError

SMALL = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1}
PUBLISHED = {
    "wan-2.1": {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 3.0, 4.0]},
    "wan-2.2": {
        "latents_mean": [0.0] * 4,
        "latents_std": [1.0] * 4,
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
        "decoder_base_dim": 16,
        "scale_factor_spatial": 16,
    },
}
OURS = AutoencoderConfig(
    base_dim=8,
    latent_channels=4,
    dim_mult=(1, 2),
    num_res_blocks=1,
    space_down=(False,),
    time_down=(True,),
    patch_size=2,
    latents_mean=(0.0, 1.0, 2.0, 3.0),
)


def relative_error(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.fixture(params=PUBLISHED)
def peer(request):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = diffusers.AutoencoderKLWan(**SMALL, **PUBLISHED[request.param]).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):  # all ones would hide a gain that is not applied
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def assert_computes_the_same(ours, peer, *, frames, rows, columns):
    side = ours.config.spatial_factor
    video = torch.rand(1, 3, frames, rows * side, columns * side) * 2 - 1
    with torch.no_grad():
        theirs, posterior = peer.encode(video).latent_dist, ours.encode(video)
        assert relative_error(posterior.mean, theirs.mean) <= 1e-5
        assert relative_error(posterior.logvar, theirs.logvar) <= 1e-5
        latents = 3 * torch.randn_like(theirs.mean)
        reconstruction = ours.decode(latents).clamp(-1, 1)
        assert relative_error(reconstruction, peer.decode(latents).sample) <= 1e-5


@pytest.mark.parametrize(
    ("frames", "rows", "columns"), [(1, 3, 5), (5, 5, 3), (17, 3, 1), (33, 1, 3)]
)
def test_a_diffusers_folder_computes_the_same(peer, tmp_path, frames, rows, columns):
    peer.save_pretrained(tmp_path)
    ours = open_autoencoder(tmp_path)
    assert_computes_the_same(ours, peer, frames=frames, rows=rows, columns=columns)


def test_after_training_our_folder_computes_the_same_in_diffusers(peer, tmp_path):
    import diffusers

    peer.save_pretrained(tmp_path / "theirs")
    ours = open_autoencoder(tmp_path / "theirs")
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * parameter.std(correction=0))
    ours.set_normalisation([0.5] * 4, [3.0] * 4)
    save_autoencoder(ours, tmp_path / "ours", format="diffusers")
    again = diffusers.AutoencoderKLWan.from_pretrained(tmp_path / "ours").eval()
    assert fingerprint(again) != fingerprint(peer)
    assert again.config.latents_std == [3.0] * 4
    assert_computes_the_same(ours, again, frames=5, rows=3, columns=1)


def test_a_published_model_saved_by_us_opens_in_diffusers(peer, tmp_path):
    import diffusers

    peer.save_pretrained(tmp_path / "theirs")
    save_autoencoder(open_autoencoder(tmp_path / "theirs"), tmp_path / "ours")
    again = diffusers.AutoencoderKLWan.from_pretrained(tmp_path / "ours")
    assert fingerprint(again) == fingerprint(peer)
    assert dict(again.config)["latents_std"] == peer.config.latents_std
    assert {key: value for key, value in again.config.items() if not key.startswith("_")} == {
        key: value for key, value in peer.config.items() if not key.startswith("_")
    }


def test_a_sharded_folder_opens(peer, tmp_path):
    peer.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert fingerprint(open_autoencoder(tmp_path)) == fingerprint(peer)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"space_down": (True,), "kernel_frames": 1},
        {"dim_mult": (1,) * 4, "space_down": (True,) * 3, "time_down": (True,) * 3},
    ],
)
def test_our_folder_gives_back_the_same_model(tmp_path, changes):
    model = Autoencoder(dataclasses.replace(OURS, **changes))
    save_autoencoder(model, tmp_path / "vae")
    again = open_autoencoder(tmp_path / "vae")
    assert again.config == model.config
    assert fingerprint(again) == fingerprint(model)
    assert again.latent_mean.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert not again.training


def kind_of(folder):
    return json.loads((folder / "config.json").read_text())["_class_name"]


def test_auto_writes_for_diffusers_what_diffusers_can_express(tmp_path):
    wan = dataclasses.replace(OURS, space_down=(True,), latents_mean=None)
    for number, (config, format, kind) in enumerate(
        [
            (wan, "auto", "AutoencoderKLWan"),
            (wan, "diffusers", "AutoencoderKLWan"),
            (wan, "native", "CausalAutoencoder"),
            (OURS, "auto", "CausalAutoencoder"),
        ]
    ):
        model = Autoencoder(config)
        save_autoencoder(model, tmp_path / str(number), format=format)
        assert kind_of(tmp_path / str(number)) == kind
        assert fingerprint(open_autoencoder(tmp_path / str(number))) == fingerprint(model)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, r"space_down=\(False,\) \(every level halves space there\); save it with format"),
        ({"space_down": (True,), "kernel_frames": 1}, "no Wan autoencoder with kernel_frames=1;"),
        (
            {"dim_mult": (1,) * 4, "space_down": (True,) * 3, "time_down": (True,) * 3},
            r"time_down=\(True, True, True\) \(time shrinks by 4 at most there\)",
        ),
    ],
)
def test_what_diffusers_cannot_express_is_named(tmp_path, changes, says):
    model = Autoencoder(dataclasses.replace(OURS, **changes))
    with pytest.raises(ModelFormatError, match=says):
        save_autoencoder(model, tmp_path / "vae", format="diffusers")
    assert not (tmp_path / "vae").exists()


def test_an_unknown_format_lists_the_known_ones(tmp_path):
    with pytest.raises(ModelFormatError, match="'onnx'; it is auto, native or diffusers"):
        save_autoencoder(Autoencoder(OURS), tmp_path / "vae", format="onnx")


QUANTISERS = {
    "vq": QuantiserConfig(kind="vq", num_codes=8),
    "fsq": QuantiserConfig(kind="fsq", levels=(4, 3)),
    "lfq": QuantiserConfig(kind="lfq", num_bits=3),
}


@pytest.mark.parametrize("name", QUANTISERS)
def test_an_autoencoder_with_tokens_opens_by_the_class_in_its_folder(tmp_path, name):
    backbone = dataclasses.replace(OURS, latents_mean=None)
    model = TokenAutoencoder(TokenAutoencoderConfig(backbone=backbone, quantiser=QUANTISERS[name]))
    save_autoencoder(model.eval(), tmp_path)
    assert kind_of(tmp_path) == "TokenAutoencoder"
    again = open_autoencoder(tmp_path, TokenAutoencoder)
    assert (again.config, again.training) == (model.config, False)
    video = torch.rand(1, 3, 3, 8, 8) * 2 - 1
    assert torch.equal(again.tokenise(video), model.tokenise(video))
    with pytest.raises(ModelFormatError, match="holds a TokenAutoencoder; what reads it needs a A"):
        open_autoencoder(tmp_path, Autoencoder)
    with pytest.raises(ModelFormatError, match="no Wan autoencoder with tokens"):
        save_autoencoder(model, tmp_path / "other", format="diffusers")


def test_a_folder_is_replaced_by_the_next_save(tmp_path):
    folder = tmp_path / "vae"
    save_autoencoder(Autoencoder(OURS), folder)
    newer = Autoencoder(dataclasses.replace(OURS, base_dim=4))
    save_autoencoder(newer, folder)
    assert fingerprint(open_autoencoder(folder)) == fingerprint(newer)
    assert [path.name for path in tmp_path.iterdir()] == ["vae"]


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ModelFormatError, match="left alone; name another folder"):
        save_autoencoder(Autoencoder(OURS), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def write_config(folder, **changes):
    save_autoencoder(Autoencoder(OURS), folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"_class_name": "AutoencoderKL"}, "holds a 'AutoencoderKL'; an autoencoder is"),
        ({"base_dim": 16}, "weights and config disagree"),
        ({"base_dim": 0}, "base_dim is 0; it must be at least 1"),
        ({"colour": "red"}, "unexpected keyword argument 'colour'"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, changes, says):
    write_config(tmp_path / "vae", **changes)
    with pytest.raises(ModelFormatError, match=says):
        open_autoencoder(tmp_path / "vae")


def test_attention_outside_of_the_middle_is_refused(tmp_path):
    tree = {"_class_name": "AutoencoderKLWan", **SMALL, **PUBLISHED["wan-2.1"]}
    write_config(tmp_path / "vae", **tree, attn_scales=[0.5])
    with pytest.raises(ModelFormatError, match=r"attn_scales is \[0.5\]"):
        open_autoencoder(tmp_path / "vae")


def test_broken_folders_are_named(tmp_path):
    with pytest.raises(ModelFormatError, match=r"has no config.json"):
        open_autoencoder(tmp_path / "nowhere")
    save_autoencoder(Autoencoder(OURS), tmp_path / "vae")
    weights = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelFormatError, match="is damaged"):
        open_autoencoder(tmp_path / "vae")
    weights.unlink()
    with pytest.raises(ModelFormatError, match="has no weights"):
        open_autoencoder(tmp_path / "vae")


def test_an_index_cannot_lead_out_of_its_folder(tmp_path):
    save_autoencoder(Autoencoder(OURS), tmp_path / "vae")
    weights = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    index = tmp_path / "vae" / f"{weights.name}.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(ModelFormatError, match="outside of its folder"):
        open_autoencoder(tmp_path / "vae")
