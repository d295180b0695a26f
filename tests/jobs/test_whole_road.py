"""The whole road at a tiny size through the real parts.

Ray, DeepSpeed on two gloo workers, an S3 server, MLflow on sqlite, H.264 files:

shapes -> train-autoencoder -> precompute -> pretrain -> distill -> evaluate -> generate
"""

import json
from pathlib import Path

import numpy as np
import pytest

from jobs import demo, precompute_latents
from jobs.cli import main
from jobs.lineage import run_of, trace
from jobs.recipe import Recipe
from pipelines import TextToVideo
from pipelines.clip import read_provenance
from pipelines.model_folder import ModelFolder
from video_platform.config import load_recipe
from video_platform.latents import open_cache

TINY = """
name: tiny
world: {num_clips: 24}
pixels: {frames: 9, height: 32, width: 32, fps: 8.0}
text: {kind: words, max_tokens: 16}
autoencoder:
  config:
    base_dim: 8
    latent_channels: 4
    dim_mult: [1, 1, 1]
    num_res_blocks: 1
    space_down: [true, false]
    time_down: [true, true]
    patch_size: 4
  image_stage: 0.5
  training: {steps: 4, batch_size: 4, micro_batch_size: 2, validate_every: 2}
model:
  transformer:
    latent_channels: 4
    text_dim: 64
    num_heads: 2
    head_dim: 8
    ffn_dim: 32
    num_layers: 2
    patch_size: [1, 1, 1]
  sampling: {steps: 4, guidance: 2.0}
pretrain:
  training:
    steps: 4
    batch_size: 4
    micro_batch_size: 2
    zero_stage: 2
    validate_every: 2
    sample_every: 4
  held_out: 0.2
  sample_prompts: [a red circle moves right]
distill:
  guidance: {steps: 2, batch_size: 4, micro_batch_size: 2}
  progressive: {steps: 2, batch_size: 4, micro_batch_size: 2}
  steps: [2]
evaluate: {prompts: 4, seeds: 1, held_out_share: 0.5, reconstructions: 4, resamples: 50, shown: 2}
cluster: {num_cpus: 2, workers: 2}
"""


@pytest.fixture
def recipe(tmp_path: Path, s3_url: str) -> Recipe:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    overrides = [
        f"project={tmp_path}/out",
        f"source.url={s3_url}/videos",
        "source.format=webdataset",
        f"cache.url={s3_url}/cache",
        "cache.unit_size=8",
    ]
    return load_recipe(Recipe, path, overrides)


def test_the_whole_road_from_nothing_to_clips_with_lineage(recipe, capsys):
    demo.run(recipe)
    printed = capsys.readouterr().out
    assert "report.html" in printed
    assert "peak memory" in printed

    assert recipe.cache is not None
    cache = open_cache(recipe.cache.url)
    assert len(cache) == 24
    sample = cache[0]
    assert sample.mean.shape == sample.logvar.shape == (4, 3, 4, 4)
    assert set(sample.text) == set(cache.encoders)

    student = ModelFolder.open(recipe.student_folder)
    assert student.card.kind == "student"
    assert student.card.guidance_baked
    assert student.card.sampling.steps == 2

    report = recipe.folder / "evaluation" / "report.html"
    assert "data:video/mp4;base64," in report.read_text(encoding="utf-8")
    results = json.loads((report.parent / "results.json").read_text(encoding="utf-8"))
    assert {contender["name"] for contender in results["contenders"]} >= {"teacher", "student"}

    clips = sorted((recipe.folder / "clips").glob("*.mp4"))
    assert [clip.stem.rpartition("-")[2] for clip in clips] == ["model", "student"]
    told = read_provenance(clips[0])
    assert told["ai_generated"]
    assert told["seed"] == demo.SEED

    kinds = set()
    nodes = [trace(run_of(str(clips[1])), uri=None, project=recipe.folder)]
    while nodes:
        node = nodes.pop()
        kinds.add(node.kind)
        nodes += node.parents
    assert kinds == {"student", "transformer", "cache", "autoencoder", "source"}

    out = recipe.folder / "again.mp4"
    prompt = "a red circle moves right"
    assert (
        main(["generate", str(recipe.model_folder), prompt, "--out", str(out), "--seed", "1"]) == 0
    )
    model = TextToVideo.open(recipe.model_folder)
    one, two = model(prompt, seed=1), model(prompt, seed=1)
    assert one.frames.shape == (9, 32, 32, 3)
    assert np.array_equal(one.frames, two.frames)
    assert not np.array_equal(one.frames, model(prompt, seed=2).frames)

    again = precompute_latents.run(recipe)
    assert again.encoded_now == again.captions_encoded_now == 0
    assert again.snapshot_id == cache.snapshot_id
