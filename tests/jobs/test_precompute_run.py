"""A run of `vdp precompute` over the small world, forecast first, as it stands in MLflow."""

import json

import pytest
from PIL import Image

from jobs import precompute_latents, rehearsal, shapes
from jobs.recipe import Recipe
from tests.jobs.precompute_world import save_tokens
from tests.tiny import make_autoencoder
from video_models.formats import fingerprint, save_autoencoder
from video_platform.config import load_recipe
from video_platform.latents import open_cache, verify
from video_platform.storage import open_store
from video_platform.tracking import TrackingConfig, open_tracker
from video_platform.tracking.lineage import lineage
from video_platform.tracking.tracker import FINGERPRINT

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own

CLIPS = 300
FACTOR = 3.0
"""A forecast is right when the run takes between a third of it and three times as long."""

SETTINGS = f"""
name: world
world: {{num_clips: {CLIPS}}}
pixels: {{frames: 9, height: 32, width: 32, fps: 8.0}}
text: [{{kind: words, max_tokens: 16}}, {{kind: words, name: wide, dim: 96, max_tokens: 16}}]
layers: {{outline: {{kind: control, method: edges, factor: 4}}}}
fidelity: {{share: 0.1, min_psnr_db: 3.0}}
forecast: {{clips: 40, encoder_price_per_hour: 2.0}}
source: {{url: "{{project}}/videos"}}
cache: {{url: "{{project}}/cache", batch_size: 8, chunk_frames: 4}}
cluster: {{num_cpus: 2}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A recipe, its source and its autoencoder."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "recipe.yaml").write_text(SETTINGS)
    save_autoencoder(make_autoencoder(), folder / "autoencoder")
    tracker = open_tracker(TrackingConfig(), folder)
    for model in (make_autoencoder(), save_tokens(folder / "tokens")):
        with tracker.start("autoencoder", name=type(model).__name__, params={}) as run:
            run.tag(FINGERPRINT, fingerprint(model))
    return folder


@pytest.fixture(scope="module")
def recipe(project):
    tokens = f"layers.tokens={{kind: codes, path: {project}/tokens}}"
    return load_recipe(Recipe, project / "recipe.yaml", [f"project={project}", tokens])


@pytest.fixture(scope="module")
def done(recipe):
    """The forecast, and the report of the run that followed."""
    shapes.run(recipe)
    return rehearsal.run(recipe), precompute_latents.run(recipe)


@pytest.fixture(scope="module")
def tracked(recipe, done):
    """The tracker and the run in it."""
    tracker = open_tracker(recipe.tracking, recipe.folder)
    return tracker, tracker.find(done[1].snapshot_id)


def test_the_forecast_is_right_within_its_factor(recipe, done):
    forecast, report = done
    assert forecast.samples["latent"] == forecast.samples["clip/outline"] == report.clips == CLIPS
    assert report.forecast_s == pytest.approx(forecast.seconds())
    assert 1 / FACTOR < report.seconds / forecast.seconds() < FACTOR
    root = open_store(recipe.cache.url)
    layers = [
        stat.size_bytes for name in ("latent", "text", "clip") for stat in root.scan(name).values()
    ]
    assert forecast.size_bytes() == pytest.approx(sum(layers), rel=0.1)


def test_a_rehearsal_leaves_nothing_but_its_forecast(recipe, done):
    keys = open_store(recipe.cache.url).list()
    assert not [key for key in keys if key.startswith("scratch")]
    assert verify(recipe.cache.url) == []


def test_the_report_says_how_right_the_forecast_was(done):
    forecast, report = done
    told = precompute_latents.describe(report, "cache")
    ratio = report.seconds / forecast.seconds()
    assert f"it took {report.seconds:.1f} s, {ratio:.2f} times as long" in told
    assert f"{CLIPS} of latent" in told


def test_the_run_shows_how_it_went(tracked, done):
    tracker, run_id = tracked
    run = tracker.get(run_id)
    for name in ("samples_per_s", "encoder_busy", "decoder_busy", "rejected", "bytes_in_flight"):
        for layer in ("latent", "clip/outline"):
            assert f"{layer}/{name}" in run.data.metrics
    assert run.data.metrics["latent/samples_per_s"] > 0
    assert 0 < run.data.metrics["latent/encoder_busy"] <= 1
    history = tracker.client.get_metric_history(run_id, "latent/samples_per_s")
    assert history[-1].step == CLIPS
    assert run.data.metrics["precompute/forecast_seconds"] == pytest.approx(done[1].forecast_s)
    path = tracker.client.download_artifacts(run_id, "precompute.json")
    with open(path) as file:
        assert json.load(file)["buckets"] == {"4x3x8x8": CLIPS}


def test_the_run_shows_what_the_latents_are_worth(tracked, done):
    tracker, run_id = tracked
    metrics = tracker.get(run_id).data.metrics
    (bucket,) = done[1].fidelity
    assert bucket == "9x32x32"
    assert 10 < metrics[f"fidelity/{bucket}/clips"] < 60
    assert metrics[f"fidelity/{bucket}/max_difference"] < 1e-5
    assert metrics[f"fidelity/{bucket}/psnr_db"] == done[1].fidelity[bucket]["psnr_db"]
    for name in ("first", "worst"):
        path = tracker.client.download_artifacts(run_id, f"fidelity/{bucket}/{name}.png")
        assert Image.open(path).height > 3 * 64


def test_the_cache_leads_back_to_its_source_and_to_all_that_made_it(tracked, recipe):
    tracker, run_id = tracked
    tree = lineage(tracker, run_id)
    parents = {parent.role: parent for parent in tree.parents}
    assert parents["source"].details["url"] == recipe.source.url
    assert parents["autoencoder"].name == "Autoencoder"
    assert parents["codes-tokens"].name == "TokenAutoencoder"
    assert len(parents) == 3


def test_both_encoders_and_the_map_are_in_the_snapshot(recipe, done):
    sample = open_cache(recipe.cache.url)[0]
    assert {name: text.shape[1] for name, text in sample.text.items()} == {"words": 64, "wide": 96}
    assert sample.layers["outline"]["map"].shape == (1, 9, 8, 8)
