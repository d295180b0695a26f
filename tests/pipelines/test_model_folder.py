"""A model folder is whole, checked and readable without its weights."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipelines.model_folder import ModelFolder
from tests.tiny import make_autoencoder, make_card, make_model, make_transformer
from video_models.diffusion.config import SamplingConfig
from video_platform.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def copy(model, tmp_path):
    return Path(shutil.copytree(model, tmp_path / "copy"))


def change(folder, **values):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_is_saved_is_what_is_opened(model):
    opened = ModelFolder.open(model)
    assert opened.card.name == "tiny"
    assert opened.card.sampling == SamplingConfig(steps=2, guidance=4.0)
    assert opened.card.text_identity == make_card().text_identity
    for found, made in (
        (opened.autoencoder(), make_autoencoder()),
        (opened.transformer(), make_transformer()),
    ):
        for name, tensor in made.state_dict().items():
            assert torch.equal(found.state_dict()[name], tensor)


def test_the_autoencoder_keeps_its_normalisation(model):
    opened = ModelFolder.open(model).autoencoder()
    latents = torch.ones(1, 4, 1, 1, 1)
    assert torch.allclose(opened.denormalise(latents), torch.full_like(latents, 2.1))


def test_weights_trained_in_bfloat16_open_with_their_fingerprint(tmp_path):
    transformer = make_transformer().bfloat16()
    folder = make_model(tmp_path / "m", make_card(), transformer=transformer)
    assert folder.transformer().proj_out.weight.dtype == torch.float32


def test_reading_the_card_loads_no_torch(model):
    code = (
        "import sys; from pipelines.model_folder import ModelFolder; "
        f"print(ModelFolder.open({str(model)!r}).identity, 'torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/platform", "PATH": ""},
    )
    assert result.stdout.split() == [ModelFolder.open(model).identity, "False"]


def test_saving_replaces_a_model_and_nothing_else(copy):
    make_model(copy, make_card(name="new"))
    assert ModelFolder.open(copy).card.name == "new"
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]
    (copy / "model.json").unlink()
    with pytest.raises(ConfigError, match="nothing was written"):
        make_model(copy, make_card())


def test_a_save_that_fails_leaves_the_old_model(copy, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("video_models.formats.save_transformer", fail)
    with pytest.raises(OSError, match="disk full"):
        make_model(copy, make_card(name="new"))
    assert ModelFolder.open(copy).card.name == "tiny"
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_exchanged_weights_are_noticed(copy):
    from video_models.formats import save_transformer

    other = make_transformer()
    with torch.no_grad():
        other.proj_out.bias[0] += 1e-3
    shutil.rmtree(copy / "transformer")
    save_transformer(other, copy / "transformer")
    with pytest.raises(ConfigError, match=r"not those that model\.json names"):
        ModelFolder.open(copy).transformer()


def test_a_folder_that_is_missing_or_something_else_is_told(tmp_path):
    with pytest.raises(ConfigError, match="there is no model folder"):
        ModelFolder.open(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"lacks model\.json, vae, transformer"):
        ModelFolder.open(tmp_path)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"format_version": 9}, "format version 9"),
        ({"sampling": {"steps": "many"}}, "sampling.steps"),
        ({"guidance_baked": True}, "guidance is baked in"),
        ({"fingerprints": {}}, "no fingerprint for vae"),
    ],
)
def test_a_card_that_makes_no_sense_is_told(copy, values, told):
    change(copy, **values)
    with pytest.raises(ConfigError, match=told):
        ModelFolder.open(copy)


def test_a_card_that_is_no_json_is_told(copy):
    (copy / "model.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        ModelFolder.open(copy)


def test_weights_that_are_no_safetensors_are_told(copy):
    for path in (copy / "vae").glob("*.safetensors"):
        path.write_bytes(b"junk")
    with pytest.raises(ConfigError, match="vae"):
        ModelFolder.open(copy).autoencoder()
