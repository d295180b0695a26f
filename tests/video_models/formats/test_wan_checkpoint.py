"""Wan's own files open, compute what the folders compute, and are written back as they were."""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from tests.video_models.formats.wan_skeleton import wan
from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.model import Autoencoder
from video_models.formats import ModelFormatError, fingerprint, open_autoencoder, save_original
from video_models.formats.wan_names import LATENTS, config_of, from_original, to_original
from video_models.presets import AUTOENCODERS

VARIANTS = {
    "wan-2.1": {"nested": False},
    "wan-2.2": {"nested": True, "dec_dim": 8},
    "two levels": {"nested": False, "mult": (1, 2), "time": (True,), "blocks": 1},
    "three levels, nested": {"nested": True, "mult": (1, 3, 3), "time": (True, False), "blocks": 3},
}


@pytest.fixture(params=VARIANTS)
def original(request):
    torch.manual_seed(0)
    return wan(**VARIANTS[request.param]).state_dict()


def test_every_name_finds_its_place_and_comes_back(original, tmp_path):
    torch.save(original, tmp_path / "Wan_VAE.pth")
    model = open_autoencoder(tmp_path / "Wan_VAE.pth")
    assert not model.training
    assert fingerprint(to_original(model.state_dict(), model.config)) == fingerprint(original)


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors"])
def test_a_file_is_written_as_it_was_read(original, tmp_path, ending):
    save_file(original, tmp_path / "theirs.safetensors")
    model = open_autoencoder(tmp_path / "theirs.safetensors")
    save_original(model, tmp_path / f"ours.{ending}")
    again = open_autoencoder(tmp_path / f"ours.{ending}")
    assert again.config == model.config
    assert fingerprint(again) == fingerprint(model)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {"theirs.safetensors", f"ours.{ending}"}
    )


def test_names_agree_with_diffusers_converter():
    utils = pytest.importorskip("diffusers.loaders.single_file_utils")
    original = wan(**VARIANTS["wan-2.1"]).state_dict()
    theirs = utils.convert_wan_vae_to_diffusers(dict(original))
    assert fingerprint(from_original(original, config_of(original))) == fingerprint(theirs)


@pytest.mark.parametrize("name", LATENTS)
def test_the_published_sizes_are_recognised_with_their_normalisation(name):
    config = AUTOENCODERS[name]
    with torch.device("meta"):
        model = Autoencoder(config)
    found = config_of(to_original(model.state_dict(), config))
    assert found == dataclasses.replace(config, **LATENTS[name])


def test_another_size_has_no_published_normalisation(original):
    assert config_of(original).latents_mean is None


def test_a_published_download_is_found_in_its_folder(original, tmp_path):
    (tmp_path / "config.json").write_text('{"_class_name": "WanModel"}')
    torch.save(original, tmp_path / "Wan2.1_VAE.pth")
    names = to_original(open_autoencoder(tmp_path).state_dict(), config_of(original))
    assert fingerprint(names) == fingerprint(original)
    torch.save(original, tmp_path / "Wan2.2_VAE.pth")
    with pytest.raises(ModelFormatError, match=r"Wan2\.1_VAE\.pth, Wan2\.2_VAE\.pth; name one"):
        open_autoencoder(tmp_path)


class Trap:
    def __reduce__(self):
        return print, ("sprung",)


def test_code_in_a_file_does_not_run(tmp_path, capsys):
    torch.save({"encoder.conv1.weight": Trap()}, tmp_path / "vae.pth")
    with pytest.raises(ModelFormatError, match="which could run code"):
        open_autoencoder(tmp_path / "vae.pth")
    assert "sprung" not in capsys.readouterr().out


def test_files_that_are_no_autoencoder_are_told(tmp_path):
    original = wan(**VARIANTS["wan-2.1"]).state_dict()
    cases = {
        "is damaged": lambda file: file.write_bytes(b"PK\x03\x04 no zip"),
        "vae.pth is damaged": lambda file: file.write_text("hello"),
        "holds a list": lambda file: torch.save([1], file),
        "does not hold the tensors of Wan": lambda file: torch.save({"a": torch.zeros(1)}, file),
        "not the tensors of Wan's autoencoder": lambda file: torch.save(
            {"encoder.conv1.weight": torch.zeros(4, 3, 3, 3, 3)}, file
        ),
        "'encoder.extra.weight' has no place": lambda file: torch.save(
            original | {"encoder.extra.weight": torch.zeros(1)}, file
        ),
        "weights and config disagree": lambda file: torch.save(
            original | {"decoder.middle.0.residual.0.gamma": torch.zeros(1)}, file
        ),
    }
    for says, write in cases.items():
        write(tmp_path / "vae.pth")
        with pytest.raises(ModelFormatError, match=says):
            open_autoencoder(tmp_path / "vae.pth")
    (tmp_path / "vae.bin").write_text("hello")
    with pytest.raises(ModelFormatError, match=r"'\.bin'; read are \.pth"):
        open_autoencoder(tmp_path / "vae.bin")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"patch_size": 2}, "patch_size=2 with residual_resampling=False"),
        ({"decoder_dim": 16}, "decoder_dim=16 without residual_resampling"),
        ({"space_down": (False,)}, r"space_down=\(False,\)"),
        ({"kernel_frames": 1}, "kernel_frames=1"),
    ],
)
def test_what_wans_code_does_not_have_is_not_written(tmp_path, changes, says):
    sizes = {
        "base_dim": 8,
        "latent_channels": 4,
        "dim_mult": (1, 2),
        "num_res_blocks": 1,
        "space_down": (True,),
        "time_down": (True,),
    }
    model = Autoencoder(AutoencoderConfig(**{**sizes, **changes}))
    with pytest.raises(ModelFormatError, match=says):
        save_original(model, tmp_path / "vae.pth")
    assert not list(tmp_path.iterdir())
