"""What is exported of a checkpoint is what training itself writes at its end."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from jobs.cli import main
from jobs.launch import source_of
from jobs.recipe import Recipe
from jobs.train_autoencoder import build, open_checkpoints
from pipelines.model_folder import ModelFolder
from tests.jobs.export_ranks import KNOBS, QUIET
from tests.jobs.latent_cache import fill
from tests.jobs.precompute_world import make_world
from tests.tiny import make_autoencoder
from tests.video_platform.training.test_engine import launch
from video_models.formats import (
    fingerprint,
    open_autoencoder,
    open_lora,
    open_transformer,
    save_autoencoder,
)
from video_models.text.config import TextConfig
from video_models.text.encoder import open_text_encoder
from video_platform.config import load_recipe
from video_platform.datasets.source import source_fingerprint
from video_platform.storage import open_store

RECIPE = """
name: tiny
pixels: {{frames: 5, height: 16, width: 16, fps: 8.0}}
text: {{kind: words, dim: 16, max_tokens: 8}}
cache: {{url: {folder}/cache}}
loader: {{prefetch_steps: 0}}
autoencoder: {{path: {folder}/vae}}
model:
  transformer: {{latent_channels: 4, text_dim: 16, num_heads: 2, head_dim: 6, ffn_dim: 16,
    num_layers: 2, freq_dim: 8}}
  sampling: {{steps: 2, guidance: 2.0}}
pretrain:
  training: {{steps: 4, batch_size: 4, micro_batch_size: 1, learning_rate: 1.0e-2}}
cluster: {{workers: 2}}
"""

AUTOENCODER = """
name: tiny
project: {folder}/project
source: {{url: {folder}/videos}}
pixels: {{frames: 5, height: 16, width: 16, fps: 8.0}}
limits: {{timeout_s: 60}}
autoencoder:
  config: {{base_dim: 8, latent_channels: 4, dim_mult: [1, 1, 1], num_res_blocks: 1,
    space_down: [false, false], time_down: [true, true], patch_size: 4}}
  training: {{steps: 10, batch_size: 4, micro_batch_size: 2}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the runs of `export_ranks` in it."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder))
    model = make_autoencoder()
    save_autoencoder(model, folder / "vae")
    encoder = open_text_encoder(TextConfig(kind="words", dim=16, max_tokens=8))
    fill(f"{folder}/cache", 12, maker=fingerprint(model), encoder=encoder, shapes=[(4, 2, 4, 4)])
    launch(folder, 2, "runs", script=Path(__file__).with_name("export_ranks.py"))
    return folder


def export(folder, run, out, *more, overrides=(), knobs=()):
    training = [f"pretrain.training.{knob}" for knob in (*knobs, *QUIET)]
    given = [str(folder / "recipe.yaml"), f"project={folder}/{run}", *training, *overrides]
    return main(["export", *given, "--out", str(out), *more])


def weights_of(folder):
    return open_transformer(folder / "transformer").state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("run", KNOBS)
def test_the_last_checkpoint_gives_what_training_wrote_at_its_end(folder, run, tmp_path, capsys):
    assert export(folder, run, tmp_path / "out", knobs=KNOBS[run]) == 0
    assert "ema of pretrain after step 4" in capsys.readouterr().out
    written, exported = ModelFolder.open(folder / run / "model"), ModelFolder.open(tmp_path / "out")
    assert same(weights_of(exported.path), weights_of(written.path))
    assert exported.card.fingerprints == written.card.fingerprints
    assert exported.card.sampling == written.card.sampling


def test_an_earlier_step_and_another_average_are_other_weights(folder, tmp_path):
    knobs = KNOBS["sharded"]
    outs = {"ema": [], "weights": [], "ema-0.5": ["--step", "2"]}
    for kind, more in outs.items():
        more = ["--weights", kind, *more]
        assert export(folder, "sharded", tmp_path / kind, *more, knobs=knobs) == 0
    found = [weights_of(tmp_path / kind) for kind in outs]
    assert not any(same(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_stopped_run_is_exported_from_s3_and_nothing_of_it_changes(folder, tmp_path, s3_url):
    there = folder / "stopped" / "checkpoints"
    store = open_store(s3_url)
    for path in there.rglob("*"):
        if path.is_file():
            store.put(str(path.relative_to(there)), path.read_bytes())
    before = store.scan()
    assert not (folder / "stopped" / "model").exists()
    assert export(folder, "moved", tmp_path / "out", overrides=[f"checkpoints={s3_url}"]) == 0
    assert store.scan() == before
    assert export(folder, "stopped", tmp_path / "again") == 0
    assert same(weights_of(tmp_path / "out"), weights_of(tmp_path / "again"))
    assert ModelFolder.open(tmp_path / "out").transformer().config.num_layers == 2


def test_adapters_are_exported_for_themselves_and_merged(folder, tmp_path):
    overrides = (
        "model.transformer=null", "pretrain.train={rank: 2, alpha: 3.0}",
        f"pretrain.start_from={folder}/sharded/model",
    )  # fmt: skip
    assert export(folder, "adapted", tmp_path / "out", overrides=overrides) == 0
    assert same(weights_of(tmp_path / "out"), weights_of(folder / "adapted" / "model"))
    network = open_transformer(folder / "sharded" / "model" / "transformer")
    open_lora(network, tmp_path / "out" / "lora")


def test_a_torn_newest_checkpoint_is_passed_over_and_left_as_it_is(folder, tmp_path, caplog):
    knobs = KNOBS["sharded"]
    shutil.copytree(folder / "sharded" / "checkpoints", tmp_path / "checkpoints")
    (file,) = tmp_path.glob("checkpoints/pretrain/step-00000004/*/rank-00001-00000.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    overrides = [f"checkpoints={tmp_path}/checkpoints"]
    assert export(folder, "sharded", tmp_path / "out", knobs=knobs, overrides=overrides) == 0
    assert "does not match its checksum" in caplog.text
    assert export(
        folder, "sharded", tmp_path / "two", "--step", "2", knobs=knobs, overrides=overrides
    ) == 0  # fmt: skip
    assert same(weights_of(tmp_path / "out"), weights_of(tmp_path / "two"))
    assert (file.parents[1] / "manifest.json").exists(), "the run itself decides about it"


class Trained:
    """An autoencoder with an average beside its weights, as a checkpoint sees an engine."""

    kinds = ("weights", "ema")

    def __init__(self, model):
        average = {n: p.detach() * 1.5 for n, p in model.named_parameters()}
        self.state = {"weights": model.state_dict(), "ema": average}

    def describe(self, kind):
        return {
            name: [str(tensor.dtype).removeprefix("torch."), *tensor.shape]
            for name, tensor in self.state[kind].items()
        }

    def fragments(self, kind):
        yield from ((name, 0, tensor.flatten()) for name, tensor in self.state[kind].items())

    def counters(self):
        return {"steps": 3}


def test_an_autoencoder_is_exported_with_its_latents_measured(tmp_path):
    make_world(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(AUTOENCODER.format(folder=tmp_path))
    recipe = load_recipe(Recipe, path)
    trained, records = Trained(build(recipe.autoencoder)), source_of(recipe, "test")
    store = open_checkpoints(recipe, source=source_fingerprint(records))
    store.save({"autoencoder": trained}, step=3, state={})
    store.wait()
    given = ["export", str(path), "--of", "train-autoencoder", "--out", str(tmp_path / "out")]
    assert main(given) == 0
    found = open_autoencoder(tmp_path / "out")
    parameters = {name: parameter.detach() for name, parameter in found.named_parameters()}
    assert same(parameters, trained.state["ema"])
    measured = found.latent_mean, found.latent_std
    assert not torch.equal(measured[0], build(recipe.autoencoder).latent_mean)
    assert all(bool(each.isfinite().all()) for each in measured)


@pytest.mark.parametrize(
    ("more", "overrides", "code", "says"),
    [
        (["--step", "3"], [], 1, "no checkpoint of step 3 .* there is 4, 2"),
        (["--weights", "ema-0.9"], [], 2, "no average 'ema-0.9'; it keeps ema, ema-0.5, weights"),
        (["--of", "pretraining"], [], 2, "pretrain, train-autoencoder"),
        ([], ["checkpoints=/nowhere/at/all"], 1, "there is none; a run saves every"),
        ([], ["model.transformer.num_layers=1"], 1, "is of another run; give the recipe"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_name(
    folder, tmp_path, more, overrides, code, says, capsys
):
    knobs = KNOBS["sharded"]
    out = tmp_path / "out"
    assert export(folder, "sharded", out, *more, knobs=knobs, overrides=overrides) == code
    assert re.search(says, capsys.readouterr().err)
    assert not out.exists()
