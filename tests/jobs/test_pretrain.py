"""Pretraining: what is told of a run, and fine-tuning of everything, adapters, or parts."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from PIL import Image

from jobs.denoising import draw_noise
from jobs.latents import LatentSource
from jobs.recipe import Recipe
from jobs.sample_grid import GAP, LABEL_SIZE, MARGIN
from jobs.validation import TIMES
from pipelines.model_folder import ModelFolder
from tests.jobs.latent_cache import fill
from tests.tiny import make_autoencoder
from tests.video_platform.training.test_engine import launch
from video_models.diffusion.guidance import conditioned
from video_models.formats import fingerprint, open_transformer, save_autoencoder
from video_models.objectives.denoising import validation_losses
from video_models.text.config import TextConfig
from video_models.text.encoder import open_text_encoder
from video_models.transformer.joint import JointTransformer
from video_models.transformer.lora import ATTENTION
from video_platform.config import load_recipe

SCENARIOS = ("fresh", "tuned", "adapted", "joint")
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
  sampling: {{steps: 2, guidance: 2.0, shift: auto}}
pretrain:
  training: {{steps: 6, batch_size: 4, micro_batch_size: 1, learning_rate: 1.0e-2, zero_stage: 2,
    log_every: 2, checkpoint_every: null, validate_every: 3, sample_every: 3}}
  timesteps: {{shift: auto}}
  weight: {{kind: min_snr}}
  held_out: 0.3
  sample_prompts: [a red circle moves right, a blue square moves up, a yellow one stays still]
  observe: {{grad_norms: true, time_buckets: 4, peak_tflops: 0.1,
    trace: {{first_step: 2, last_step: 3}}}}
cluster: {{workers: 2}}
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two gloo ranks of this machine report, and the folder that they worked in."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder))
    model = make_autoencoder()
    save_autoencoder(model, folder / "vae")
    encoder = open_text_encoder(TextConfig(kind="words", dim=16, max_tokens=8))
    fill(f"{folder}/cache", 24, maker=fingerprint(model), encoder=encoder, shapes=[(4, 2, 4, 4)])
    script = Path(__file__).with_name("pretrain_ranks.py")
    reports = launch(folder, 2, *SCENARIOS, script=script)
    return reports, folder


@pytest.fixture(scope="module")
def fresh(pair):
    return pair[0]["fresh"]


def at(scalars, step, prefix):
    return {
        name.removeprefix(prefix): value
        for name, value in scalars[str(step)].items()
        if name.startswith(prefix)
    }


def test_the_held_out_loss_of_two_ranks_is_that_of_the_saved_average(pair):
    reports, folder = pair
    recipe = load_recipe(Recipe, folder / "recipe.yaml")
    source = LatentSource(recipe)
    held_out, _ = source.split(0.3, seed=0)
    [batch] = source.fixed_batches(held_out, most=128)
    assert len(batch.indices) == 7  # no multiple of the ranks
    measured = validation_losses(
        conditioned(ModelFolder.open(folder / "whole" / "model").transformer(), batch.data.text),
        source.latents(batch, 0),
        noise=draw_noise(batch, 0),
        times=TIMES,
    )
    told = at(reports["fresh"]["scalars"], 6, "validation_ema/loss_at_")
    expected = {str(time): losses.mean().item() for time, losses in measured.items()}
    assert told == pytest.approx(expected, rel=1e-5)
    scalars = reports["fresh"]["scalars"]["6"]
    assert scalars["validation_ema/loss"] == pytest.approx(sum(told.values()) / len(TIMES))
    assert scalars["validation/loss"] != scalars["validation_ema/loss"]


def test_a_run_tells_its_loss_by_time_and_its_gradient_by_block(fresh):
    by_time = {name for step in (2, 4, 6) for name in at(fresh["scalars"], step, "loss_by_time/")}
    assert by_time <= {"0.00-0.25", "0.25-0.50", "0.50-0.75", "0.75-1.00"}
    assert len(by_time) >= 3
    for step in (2, 4, 6):
        norms = at(fresh["scalars"], step, "grad_norm_by_block/")
        total = fresh["scalars"][str(step)]["transformer/grad_norm"]
        assert {"blocks.0", "blocks.1"} < norms.keys()
        assert sum(norm**2 for norm in norms.values()) == pytest.approx(total**2, rel=1e-4)


def test_a_run_tells_what_it_gets_done_and_what_it_takes(fresh):
    last = fresh["scalars"]["6"]
    assert last["throughput/clips_per_step"] == 4
    assert last["throughput/tokens_per_step"] == 4 * 2 * 2 * 2
    assert last["throughput/tokens_per_s"] == pytest.approx(8 * last["throughput/clips_per_s"])
    assert last["throughput/utilisation"] == pytest.approx(last["throughput/tflop_per_s"] / 0.2)
    assert 0.1 < last["memory/process_gb"] < 10
    assert not [name for name in last if name.startswith("batch/")]


def test_samples_over_training_are_one_picture(pair):
    reports, folder = pair
    assert {"samples/step-000003.png", "samples/step-000006.png"} < {*reports["fresh"]["files"]}
    grid = Image.open(folder / "artifacts" / "samples.png")
    cell = 3 * 64 + 2 * GAP  # 16 x 16 pixels, enlarged four times; three frames
    width = MARGIN + 2 * (cell + MARGIN)
    height = LABEL_SIZE + 2 * MARGIN + 3 * (LABEL_SIZE + MARGIN + 64 + MARGIN)
    assert grid.size == (width, height)


def test_a_trace_of_the_asked_steps_opens_as_a_trace(pair):
    packed = (pair[1] / "artifacts" / "trace" / "steps-2-3.json.gz").read_bytes()
    trace = json.loads(gzip.decompress(packed))
    assert sum(event.get("name") == "aten::conv3d" for event in trace["traceEvents"]) >= 4


def test_a_run_that_was_stopped_ends_with_the_same_model_curves_and_samples(fresh):
    assert fresh["finished"] == [True, False, True]
    assert len(set(fresh["fingerprints"])) == 1
    assert fresh["same grid"]
    assert fresh["same curves"]
    for name, value in at(fresh["again"], 6, "validation").items():
        assert value == fresh["scalars"]["6"][f"validation{name}"]


def test_a_model_says_that_its_shift_is_automatic_and_what_it_came_from(pair):
    card = ModelFolder.open(pair[1] / "whole" / "model").card
    assert card.sampling.shift == "auto"
    assert card.parents == {"base": "cd" * 16}


def test_fine_tuning_everything_changes_everything(pair):
    reports, folder = pair
    names = {*open_transformer(folder / "wan" / "transformer").state_dict()}
    assert {*reports["tuned"]["everything"]} == names


@pytest.mark.parametrize("how", ["stage 3", "bf16"])
def test_what_is_frozen_stays_bit_for_bit(pair, how):
    reports, folder = pair
    names = open_transformer(folder / "wan" / "transformer").state_dict()
    chosen = [name for name in names if ".attn2." in name or name.startswith("proj_out.")]
    assert reports["tuned"][f"parts, {how}"] == sorted(chosen)


@pytest.mark.parametrize("how", ["zero_stage=1", "zero_stage=2", "zero_stage=3"])
def test_adapters_are_saved_for_themselves_and_merged(pair, how):
    reports, folder = pair
    names = open_transformer(folder / "wan" / "transformer").state_dict()
    ends = tuple(f".attn{i}.{name}.weight" for i in (1, 2) for name in ATTENTION)
    assert reports["adapted"][how]["changed"] == sorted(n for n in names if n.endswith(ends))
    assert reports["adapted"][how]["same"]


def test_diffusers_reads_the_adapters(pair):
    folder = pair[1]
    model = WanTransformer3DModel.from_pretrained(folder / "wan" / "transformer")
    adapters = folder / "zero_stage=2" / "model" / "lora"
    model.load_lora_adapter(adapters, weight_name="pytorch_lora_weights.safetensors")
    ours = open_transformer(folder / "zero_stage=2" / "model" / "transformer")
    latents, text = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 8, 16)
    with torch.no_grad():
        theirs = model(latents, torch.tensor([300.0]), text).sample
        torch.testing.assert_close(
            ours(latents, torch.tensor([0.3]), text), theirs, rtol=1e-4, atol=1e-5
        )


def test_a_joint_transformer_trains_samples_and_takes_adapters(pair):
    report = pair[0]["joint"]
    first, last = report["scalars"]["2"], report["scalars"]["4"]
    assert last["throughput/tflop_per_s"] > 0
    assert {"transformer_blocks.0", "single_transformer_blocks.0"} < at(
        report["scalars"], 4, "grad_norm_by_block/"
    ).keys()
    assert first["transformer/grad_norm"] > 0
    assert "samples.png" in report["pictures"]
    model = ModelFolder.open(report["folder"]).transformer()
    assert isinstance(model, JointTransformer)
    assert model.proj_out.weight.any()  # zero before it was trained
    ends = tuple(f"{name}.weight" for name in ATTENTION)
    assert report["adapted"] == sorted(name for name in model.state_dict() if name.endswith(ends))
