"""Autoencoders are judged side by side on tiny parts: real folders, detectors and tracking."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch

from jobs.evaluate import run
from jobs.evaluate_autoencoder import evaluate_autoencoders, networks_of
from jobs.evaluation_autoencoder import Networks
from jobs.evaluation_autoencoder_results import results_table
from jobs.evaluation_bench import Bench, Reference, shapes_bench
from jobs.evaluation_config import EvaluationConfig
from jobs.recipe import Recipe
from jobs.side_by_side import GAIN, side_by_side
from tests.tiny import make_autoencoder, make_model
from tests.video_models.image.test_clip import make_vision_folder
from video_models.autoencoder.quantiser_config import QuantiserConfig, TokenAutoencoderConfig
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.formats import fingerprint, save_autoencoder
from video_models.image.clip import open_image_encoder
from video_models.metrics.reconstruction import psnr
from video_platform.datasets.config import SourceConfig
from video_platform.errors import ConfigError
from video_platform.shapes.world import WorldConfig
from video_platform.tracking import TrackingConfig, lineage, open_tracker
from video_platform.video.policy import PixelPolicy

WORLD = WorldConfig(num_clips=10)
CONFIG = EvaluationConfig(batch_size=2, reconstructions=3, resamples=50, shown=2)

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own


def make_tokens():
    torch.manual_seed(0)
    backbone = dataclasses.replace(make_autoencoder().config, latents_mean=None, latents_std=None)
    quantiser = QuantiserConfig(kind="fsq", levels=(4, 4))
    config = TokenAutoencoderConfig(backbone=backbone, quantiser=quantiser)
    return TokenAutoencoder(config).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autoencoders")
    save_autoencoder(make_autoencoder(), folder / "vae")
    save_autoencoder(make_tokens(), folder / "tokens")
    return {"vae": folder / "vae", "fsq": folder / "tokens"}


@pytest.fixture(scope="module")
def found(folders, tmp_path_factory):
    bench = shapes_bench(WORLD, CONFIG)
    folder = tmp_path_factory.mktemp("evaluation")
    return evaluate_autoencoders(folders, bench, config=CONFIG, folder=folder, title="tiny")


def value(judged, name):
    (measure,) = (m for m in judged.measures if m.name == name)
    return measure.interval.value


def test_quality_is_that_of_the_reconstructions(found):
    frames = np.stack([reference.frames for reference in shapes_bench(WORLD, CONFIG).references])
    video = torch.from_numpy(frames).movedim(-1, 1) / 127.5 - 1
    with torch.no_grad():
        reconstruction, posterior = make_autoencoder()(video)
    vae = found.autoencoders[0]
    expected = psnr(reconstruction.clamp(-1, 1), video)
    assert value(vae, "psnr") == pytest.approx(float(expected.mean()), rel=1e-4)
    bits = posterior.bits() / (9 * 32 * 32)
    assert value(vae, "bits per pixel") == pytest.approx(float(bits.mean()), rel=1e-4)


def test_frames_are_told_apart_by_their_place(found):
    for each in found.autoencoders:
        curve = each.curves["psnr"]
        assert len(curve) == len(each.curves["ssim"]) == 9
        assert value(each, "psnr first frame") == pytest.approx(curve[0], rel=1e-5)
        borders = (curve[1] + curve[5]) / 2
        assert value(each, "psnr borders") == pytest.approx(borders, rel=1e-5)


def test_each_kind_of_code_is_measured_in_its_own_way(found):
    vae, fsq = found.autoencoders
    assert (vae.kind, fsq.kind) == ("4x4x4, vae 4", "4x4x4, fsq 16")
    assert value(fsq, "bits per pixel") == pytest.approx(3 * 8 * 8 * 4 / (9 * 32 * 32))
    assert {"codes used", "perplexity"} <= fsq.facts.keys()
    assert 0 < fsq.facts["codes used"] <= 1 <= fsq.facts["perplexity"] <= 16
    assert "dead channels" in vae.facts
    assert len(vae.channels.std) == 4
    assert fsq.channels is None


def test_the_detectors_judge_reconstructions_and_truth(found):
    assert {m.name for m in found.ground_truth} <= {m.name for m in found.autoencoders[0].measures}
    assert all(m.interval.value == 1 for m in found.ground_truth)
    assert value(found.autoencoders[0], "exact") == 0  # nobody trained it


def test_one_table_holds_all(found):
    table = results_table(found)
    assert [column.header for column in table.columns] == ["", "vae", "fsq", "truth"]
    rows = list(table.columns[0].cells)
    assert rows[:2] == ["kind", "psnr"]
    order = [rows.index(name) for name in ("ssim", "bits per pixel", "exact", "encode seconds")]
    assert order == sorted(order)
    used = rows.index("codes used")
    assert list(table.columns[1].cells)[used] == ""
    assert list(table.columns[2].cells)[used].endswith("%")


def test_files_are_written(found):
    names = {path.name for path in found.folder.iterdir()}
    assert names == {"results.json", "results.csv", "frames.png", "sheet.png", "side-by-side"}
    assert {path.name for path in (found.folder / "side-by-side").iterdir()} == {
        "vae.mp4",
        "fsq.mp4",
    }
    tree = json.loads((found.folder / "results.json").read_text())
    assert [each["name"] for each in tree["autoencoders"]] == ["vae", "fsq"]
    with (found.folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["autoencoder"] for row in rows} == {"vae", "fsq", "ground truth"}


def test_differences_are_amplified_around_grey():
    original = np.full((2, 64, 32, 3), 100, np.uint8)
    shown = side_by_side(original[None], original[None] + 3)
    assert shown.shape == (2, 128, 192, 3)
    assert [int(shown[0, 5, x, 0]) for x in (5, 70, 140)] == [100, 103, 128 + 3 * GAIN]
    assert side_by_side(original[None, :, :63], original[None, :, :63]).shape[1] % 2 == 0


def test_measures_that_need_a_network_wait_for_one(found, folders, tmp_path):
    networks = Networks(
        perceptual=lambda reconstruction, video: (reconstruction - video).abs().flatten(1).mean(1),
        features=lambda video: video.mean((2, 3, 4)),
    )
    with_networks = evaluate_autoencoders(
        {"vae": folders["vae"]},
        shapes_bench(WORLD, CONFIG),
        config=CONFIG,
        folder=tmp_path,
        networks=networks,
    )
    (vae,) = with_networks.autoencoders
    assert value(vae, "lpips") > 0
    assert vae.facts["fréchet distance of clips, 3 clips of 32 x 32"] > 0
    bare = found.autoencoders[0]
    assert not [name for name in bare.facts if "fréchet" in name]
    assert "lpips" not in [m.name for m in bare.measures]


def test_a_vision_model_of_the_recipe_judges_frames(tmp_path):
    recipe = Recipe(name="x")
    config = EvaluationConfig(feature_network=str(make_vision_folder(tmp_path)))
    networks = networks_of(recipe, config)
    video = torch.rand(2, 3, 5, 8, 8) * 2 - 1
    features = networks.features(video)
    assert (networks.features_of, features.shape) == ("frames by CLIP", (10, 16))
    frame = ((video[1, :, 2] + 1) * 127.5).round().byte()
    expected = open_image_encoder(str(tmp_path), "pooled").encode(frame[None])[0, 0]
    torch.testing.assert_close(features[7], expected)
    with pytest.raises(ConfigError, match=r"evaluate\.feature_network: .* holds no CLIP"):
        networks_of(recipe, EvaluationConfig(feature_network=str(tmp_path / "none")))


def test_the_job_tracks_what_it_found_with_the_makers_as_parents(folders, tmp_path, capsys):
    tracker = open_tracker(TrackingConfig(), tmp_path)
    tags = {"vdp.fingerprint": fingerprint(make_autoencoder())}
    with tracker.start("autoencoder", name="maker", params={}, tags=tags) as maker:
        pass
    config = dataclasses.replace(CONFIG, autoencoders={k: str(v) for k, v in folders.items()})
    run(Recipe(name="tiny", project=str(tmp_path), world=WORLD, evaluate=config))
    out = capsys.readouterr().out
    assert "tiny: 3 clips of 9 x 32 x 32" in out
    (tracked, _) = tracker.client.search_runs([tracker.experiment_id])
    assert tracked.data.tags["vdp.kind"] == "evaluation"
    (parent,) = lineage(tracker, tracked.info.run_id).parents
    assert (parent.role, parent.run_id) == ("vae", maker.id)
    curve = tracker.client.get_metric_history(tracked.info.run_id, "fsq/psnr by frame")
    assert sorted(point.step for point in curve) == list(range(9))
    assert "vae/bits per pixel" in tracked.data.metrics
    artifacts = {file.path for file in tracker.client.list_artifacts(tracked.info.run_id)}
    assert {"frames.png", "sheet.png", "side-by-side", "results.json"} <= artifacts
    assert (tmp_path / "evaluation-autoencoders" / "frames.png").is_file()


def test_clips_of_a_source_are_measured_without_a_judge(folders, tmp_path):
    from video_platform.shapes.write import write_dataset

    write_dataset(WORLD, str(tmp_path / "videos"))
    recipe = Recipe(
        name="clips",
        project=str(tmp_path),
        source=SourceConfig(url=str(tmp_path / "videos")),
        pixels=PixelPolicy(frames=5, height=16, width=24, fps=8.0),
        evaluate=dataclasses.replace(CONFIG, autoencoders=str(folders["vae"])),
    )
    found = run(recipe)
    assert found.clips == (3, 5, 16, 24)
    assert [each.name for each in found.autoencoders] == ["vae"]
    assert found.ground_truth == ()
    assert "exact" not in [m.name for m in found.autoencoders[0].measures]


def test_an_autoencoder_is_found_in_a_model_folder(tmp_path):
    path = make_model(tmp_path / "model").path
    bench = shapes_bench(WORLD, CONFIG)
    found = evaluate_autoencoders({"m": path}, bench, config=CONFIG, folder=tmp_path / "out")
    assert found.autoencoders[0].identity == fingerprint(make_autoencoder())


def test_what_cannot_be_judged_is_told(folders, tmp_path):
    frames = Reference(frames=np.zeros((4, 16, 16, 3), dtype=np.uint8))
    cases = [
        ({"vae": folders["vae"]}, "clips do not fit the autoencoder 'vae': a clip of 4 frames"),
        ({"gone": tmp_path / "gone"}, r"evaluate\.autoencoders: .*gone is not a model folder"),
    ]
    for given, says in cases:
        with pytest.raises(ConfigError, match=says):
            evaluate_autoencoders(
                given,
                Bench(questions=(), references=(frames,)),
                config=CONFIG,
                folder=tmp_path / "out",
            )
    config = dataclasses.replace(CONFIG, autoencoders=str(folders["vae"]))
    with pytest.raises(ConfigError, match="no clips to judge autoencoders on"):
        run(Recipe(name="x", project=str(tmp_path), evaluate=config))


def test_names_are_checked_before_anything_runs():
    with pytest.raises(ValueError, match=r"holds the name 'a/b'"):
        EvaluationConfig(autoencoders={"a/b": "x"})
    with pytest.raises(ValueError, match="names none"):
        EvaluationConfig(autoencoders={})
    assert list(EvaluationConfig(autoencoders="out/mine/").autoencoder_folders) == ["mine"]
