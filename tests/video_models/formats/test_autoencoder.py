"""Autoencoder folders, ours and diffusers', and what is no such folder."""

import dataclasses
import json

import pytest
import torch

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
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


def test_a_diffusers_folder_computes_the_same(peer, tmp_path):
    peer.save_pretrained(tmp_path)
    ours = open_autoencoder(tmp_path)
    side = ours.config.spatial_factor
    for frames in (1, 5, 17):
        video = torch.rand(2, 3, frames, 3 * side, 2 * side) * 2 - 1
        with torch.no_grad():
            theirs, posterior = peer.encode(video).latent_dist, ours.encode(video)
            assert relative_error(posterior.mean, theirs.mean) < 1e-5
            assert relative_error(posterior.logvar, theirs.logvar) < 1e-5
            latents = 3 * torch.randn_like(theirs.mean)
            reconstruction = ours.decode(latents).clamp(-1, 1)
            assert relative_error(reconstruction, peer.decode(latents).sample) < 1e-5


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
