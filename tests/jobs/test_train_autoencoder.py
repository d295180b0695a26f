"""Autoencoder training on two real ranks, and what is decided without any."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jobs.autoencoder_step import trains_on_images
from jobs.autoencoder_validation import evaluating
from jobs.recipe import AutoencoderSection, Recipe
from jobs.side_by_side import side_by_side
from jobs.train_autoencoder import build, check_fit, open_checkpoints, open_perceptual
from tests.tiny import make_autoencoder
from tests.video_platform.training.saved_network import Network
from tests.video_platform.training.test_engine import launch
from video_models.formats import save_autoencoder
from video_models.objectives.config import ReconstructionConfig
from video_platform.config import load_recipe
from video_platform.errors import ConfigError
from video_platform.training.loop import At

SCENARIOS = ("game", "resume", "decoder")
RESUMED = [
    f"{name}, stage {stage}, stopped after {stop}"
    for name, stage in (("vae", 2), ("vq", 0))
    for stop in (1, 3)
]
SECTION = """
name: tiny
pixels: {frames: 5, height: 16, width: 16, fps: 8.0}
autoencoder:
  config:
    base_dim: 8
    latent_channels: 4
    dim_mult: [1, 1, 1]
    num_res_blocks: 1
    space_down: [false, false]
    time_down: [true, true]
    patch_size: 4
  training: {steps: 10, batch_size: 4, micro_batch_size: 2}
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two gloo ranks of this machine report."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("autoencoder_ranks.py")
    return launch(folder, 2, *SCENARIOS, script=script)


@pytest.mark.parametrize("stage", range(3))
def test_the_game_on_two_ranks_equals_a_plain_pytorch_loop(pair, stage):
    report = pair["game"][f"stage {stage}"]
    assert report["losses"] == pytest.approx(report["plain losses"], abs=1e-5)
    assert report["autoencoder"] < 2e-5
    assert report["discriminator"] < 2e-5


def test_scalars_of_the_game_are_reported_from_its_first_step_on(pair):
    before, *after = pair["game"]["stage 1"]["names"]
    terms = {"loss", "mse", "l1", "kl"}
    game = {"adversarial", "adversarial_weight", "discriminator/loss", "discriminator/r1"}
    assert terms <= set(before) and not game & set(before)
    assert all(terms | game <= set(names) for names in after)


@pytest.mark.parametrize("run", RESUMED)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(pair, run):
    report = pair["resume"][run]
    assert report["started_at"] == int(run[-1])
    assert report["same"]


def test_the_use_of_a_codebook_is_reported_for_all_ranks_together(pair):
    perplexities = pair["resume"]["vq, stage 0, stopped after 3"]["codebook"]
    assert len(perplexities) == 6
    assert all(1 <= perplexity <= 8 for perplexity in perplexities)
    assert pair["resume"]["vae, stage 2, stopped after 3"]["codebook"] == [None] * 6


def test_training_the_decoder_alone_leaves_encoder_and_latents_as_they_are(pair):
    report = pair["decoder"]
    assert report["encoder"] and report["latents"]
    assert not report["decoder"]
    assert report["normalisation"] == [pytest.approx(0.1), 2.0]


def test_a_video_model_starts_as_the_image_model_that_it_starts_from(pair):
    assert pair["decoder"]["images"] < 1e-6


def recipe(tmp_path, *overrides):
    path = tmp_path / "recipe.yaml"
    path.write_text(SECTION)
    return load_recipe(Recipe, path, overrides)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["autoencoder.training.zero_stage=3"], "use zero_stage 0, 1 or 2"),
        (["autoencoder.adversarial.start_step=10"], "never reached in 10 steps"),
        (["autoencoder.train=decoder"], "needs start_from"),
        (["autoencoder.image_share=1.5"], "image_share = 1.5"),
        (["autoencoder.loss={lpips: 1.0}"], "lpips_weights names no file"),
        (["autoencoder.training.sequence_parallel=2"], "sequence_parallel = 2 .* leave it at 1"),
    ],
)
def test_a_section_that_cannot_be_trained_is_refused_by_name(tmp_path, overrides, says):
    game = "autoencoder.adversarial={discriminator: {num_layers: 1}}"
    with pytest.raises(ConfigError, match=says):
        recipe(tmp_path, game, *overrides)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["pixels.frames=4"], "a clip of 4 frames does not fit this autoencoder"),
        (["pixels.height=18"], "frames of 18 x 16 pixels do not fit"),
        (
            ["autoencoder.loss={lpips: 1.0, lpips_weights: [a.pth]}", "pixels.width=8"],
            "too small for LPIPS",
        ),
        (["autoencoder.adversarial={}"], "too small for a discriminator of 3 layers"),
    ],
)
def test_clips_that_do_not_fit_are_refused_before_anything_starts(tmp_path, overrides, says):
    with pytest.raises(ConfigError, match=says):
        check_fit(recipe(tmp_path, *overrides))


def test_a_recipe_says_which_checkpoints_stay(tmp_path):
    knobs = {"checkpoint_every": 2, "keep_checkpoints": 1, "keep_every": 4}
    given = recipe(
        tmp_path,
        f"project={tmp_path}",
        *(f"autoencoder.training.{name}={value}" for name, value in knobs.items()),
    )
    store = open_checkpoints(given, source="clips")
    for step in (2, 4, 6, 8, 10):
        store.save({"autoencoder": Network(step)}, step=step, state={})
        if step == 6:
            store.mark_good(step)
    assert store.has_good()  # waits for everything
    left = {path.parent.name for path in tmp_path.glob("checkpoints/autoencoder/*/manifest.json")}
    assert left == {f"step-{step:08d}" for step in (4, 6, 8, 10)}


def test_a_start_that_does_not_fit_is_named(tmp_path):
    save_autoencoder(make_autoencoder(), tmp_path / "start")
    key = f"autoencoder.start_from={tmp_path}/start"
    build(recipe(tmp_path, key).autoencoder)
    wider = recipe(tmp_path, key, "autoencoder.config.base_dim=16").autoencoder
    with pytest.raises(ConfigError, match=r"start_from = '.*/start': .* this size needs"):
        build(wider)
    with pytest.raises(ConfigError, match=r"start_from = '.*/gone'"):
        build(recipe(tmp_path, f"autoencoder.start_from={tmp_path}/gone").autoencoder)


def test_image_steps_come_first_and_then_by_their_share():
    section = AutoencoderSection(image_stage=0.25, image_share=0.3)
    drawn = [trains_on_images(section, At(step, 7), steps=1000) for step in range(1000)]
    assert all(drawn[:250])
    assert sum(drawn[250:]) / 750 == pytest.approx(0.3, abs=0.06)
    assert drawn == [trains_on_images(section, At(s, 7), steps=1000) for s in range(1000)]
    none = dataclasses.replace(section, image_share=0.0)
    assert not any(trains_on_images(none, At(step, 7), steps=1000) for step in range(250, 1000))


def test_the_difference_is_amplified_around_grey_beside_original_and_reconstruction():
    frames = np.full((2, 3, 5, 6, 3), 100, np.uint8)
    made = frames.copy()
    made[0], made[1] = 110, 0
    video = side_by_side(frames, made)
    factor = 26  # 5 rows a clip become at least 128
    assert video.shape == (3, 10 * factor, 18 * factor, 3)
    row = video[0, 0, ::factor]
    assert [row[0, 0], row[6, 0], row[12, 0]] == [100, 110, 168]
    assert video[0, -1, -1, 0] == 0  # far below: clipped


def test_frames_of_an_odd_size_are_padded_for_the_codec():
    frames = np.zeros((1, 2, 129, 129, 3), np.uint8)
    assert side_by_side(frames, frames).shape == (2, 130, 388, 3)


def test_validation_leaves_frozen_parts_in_the_mode_that_it_found():
    model = make_autoencoder().train()
    model.encoder.eval()
    with evaluating(model):
        assert not any(part.training for part in model.modules())
    assert model.decoder.training and not model.encoder.training


def test_weights_of_lpips_that_do_not_fit_are_refused_with_their_key(tmp_path):
    loss = ReconstructionConfig(lpips=1.0, lpips_weights=(f"{tmp_path}/gone.pth",))
    with pytest.raises(ConfigError, match=r"autoencoder\.loss: .*gone\.pth"):
        open_perceptual(loss)
    assert open_perceptual(ReconstructionConfig()) is None
