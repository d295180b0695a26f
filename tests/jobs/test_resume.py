"""A run that stops and goes on is the run that never stopped: at every step, on other ranks too.

Everything is real but the size: cache, loader, transformer, DeepSpeed, loop, checkpoints.
"""

from pathlib import Path

import pytest

from tests.jobs.latent_cache import fill
from tests.jobs.resume_ranks import SETTINGS, STEPS
from tests.tiny import make_autoencoder
from tests.video_platform.training.test_engine import launch
from video_models.formats import fingerprint, save_autoencoder
from video_models.text.config import TextConfig
from video_models.text.encoder import open_text_encoder

SCRIPT = Path(__file__).with_name("resume_ranks.py")
RECIPE = """
name: tiny
pixels: {{frames: 5, height: 16, width: 16, fps: 8.0}}
text: {{kind: words, dim: 16, max_tokens: 8}}
cache: {{url: {folder}/cache}}
autoencoder: {{path: {folder}/vae}}
model:
  transformer: {{latent_channels: 4, text_dim: 16, num_heads: 2, head_dim: 6, ffn_dim: 16,
    num_layers: 2, freq_dim: 8}}
pretrain:
  training: {{steps: {steps}, batch_size: 5, micro_batch_size: 2, learning_rate: 1.0e-2,
    warmup_steps: 3, clip_norm: 0.5, log_every: 1, checkpoint_every: null}}
  held_out: 0.2
cluster: {{workers: 2}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe, a cache of clips of three sizes, and an autoencoder."""
    folder = tmp_path_factory.mktemp("resume")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder, steps=STEPS))
    model = make_autoencoder()
    save_autoencoder(model, folder / "vae")
    encoder = open_text_encoder(TextConfig(kind="words", dim=16, max_tokens=8))
    fill(f"{folder}/cache", 24, maker=fingerprint(model), encoder=encoder)
    return folder


@pytest.fixture(scope="module")
def pair(folder):
    """What two ranks report."""
    return launch(folder, 2, "every_step", "elastic", script=SCRIPT)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_run_resumed_at_any_step_equals_the_uninterrupted_one_bit_for_bit(pair, setting):
    """In losses, weights, moments, averages and samples, whatever the global generators hold.

    The checkpoints were written while training went on, and read-ahead differs.
    """
    report = pair["every_step"][setting]
    assert report["unlike"] == []
    assert len(set(report["losses"].values())) == STEPS


def losses(report):
    return {int(step): float.fromhex(loss) for step, loss in report["losses"].items()}


def check(report, whole, steps):
    assert report["from"] == steps[0] - 1
    assert report["samples"] == {str(step): whole["samples"][str(step)] for step in steps}
    expected = {step: losses(whole)[step] for step in steps}
    assert losses(report) == pytest.approx(expected, rel=1e-5)


def test_a_run_goes_on_at_another_stage_with_the_same_samples_and_losses(pair):
    check(pair["elastic"]["stage 3"], pair["elastic"]["whole"], range(8, STEPS + 1))


def test_two_ranks_then_one_then_two_take_the_same_samples_with_the_same_losses(folder, pair):
    whole = pair["elastic"]["whole"]
    check(launch(folder, 1, "alone", script=SCRIPT)["alone"], whole, range(8, 14))
    together = launch(folder, 2, "together", script=SCRIPT)["together"]
    check(together, whole, range(14, STEPS + 1))
