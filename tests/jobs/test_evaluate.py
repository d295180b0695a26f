"""Models are judged side by side on tiny parts: real files, real detectors, real tracking."""

import csv
import dataclasses
import json
import shutil
import weakref

import numpy as np
import pytest

from jobs.evaluate import evaluate, run
from jobs.evaluation_bench import Bench, Question, Reference, file_bench, shapes_bench
from jobs.evaluation_config import EvaluationConfig
from jobs.evaluation_lineup import lineup
from jobs.evaluation_measure import compete
from jobs.evaluation_records import find
from jobs.evaluation_references import held_out_clips
from jobs.evaluation_results import as_metrics
from jobs.recipe import AutoencoderSection, Recipe
from pipelines.clip import read_provenance
from pipelines.text_to_video import TextToVideo
from tests.tiny import make_model, make_student_card
from tests.video_models.image.test_clip import make_vision_folder
from video_platform.datasets.config import SourceConfig
from video_platform.errors import ConfigError
from video_platform.shapes.world import WorldConfig, held_out_combinations
from video_platform.tracking import TrackingConfig, lineage, open_tracker
from video_platform.training.config import TrainingConfig
from video_platform.video.policy import PixelPolicy

WORLD = WorldConfig(num_clips=10)
CONFIG = EvaluationConfig(
    prompts=3, seeds=2, held_out_share=0.34, batch_size=4, reconstructions=2, resamples=50, shown=2
)

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "teacher": make_model(folder / "model").path,
        "student": make_model(folder / "student", make_student_card()).path,
    }


@pytest.fixture(scope="module")
def result(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    bench = shapes_bench(WORLD, CONFIG)
    return evaluate(models, bench, config=CONFIG, folder=folder, title="tiny")


def test_every_contender_makes_every_clip_with_the_same_seeds(result):
    names = [contender.name for contender in result.contenders]
    assert names == ["teacher", "teacher in 1 step", "student"]
    asked = {
        name: [(c.prompt, c.seed) for c in result.clips if c.contender == name] for name in names
    }
    assert asked["teacher"] == asked["student"] == asked["teacher in 1 step"]
    seeds = [seed for _, seed in asked["teacher"]]
    assert seeds == list(range(1000, 1006))  # no seed comes twice


def test_contenders_are_sampled_as_they_should(result):
    told = {c.contender: read_provenance(result.folder / c.file) for c in result.clips}
    assert (told["teacher"]["steps"], told["teacher"]["guidance"]) == (2, 4.0)
    assert (told["teacher in 1 step"]["steps"], told["teacher in 1 step"]["guidance"]) == (1, 4.0)
    assert (told["student"]["steps"], told["student"]["guidance"]) == (1, 1.0)


def test_trained_and_withheld_prompts_are_told_apart(result):
    splits = {clip.prompt: clip.split for clip in result.clips}
    assert sorted(splits.values()) == ["trained", "trained", "withheld"]
    withheld = {f"{c.colour} {c.shape}" for c in held_out_combinations(WORLD)}
    asked = next(prompt for prompt, split in splits.items() if split == "withheld")
    assert any(words in asked for words in withheld)
    assert {measure.split for measure in result.rates} == {"trained", "withheld"}


def test_the_ground_truth_is_always_right(result):
    for name in ("colour", "shape", "binding", "direction", "count", "exact"):
        measure = find(
            result.reconstructions, contender="ground truth", name=name, split="references"
        )
        assert measure.interval.value == 1


def test_the_autoencoder_is_judged_once(result):
    named = [m.name for m in result.reconstructions if m.contender == "autoencoder"]
    assert named[:2] == ["psnr", "ssim"]
    assert len(named) == len(set(named)) == 8


def test_students_are_compared_with_both_teachers(result):
    assert {(m.contender, m.against) for m in result.differences} == {
        ("student", "teacher"),
        ("student", "teacher in 1 step"),
    }


def test_tables_hold_every_number(result):
    tree = json.loads((result.folder / "results.json").read_text())
    assert len(tree["clips"]) == 18
    with (result.folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    tables = (result.rates, result.differences, result.reconstructions, result.looks)
    assert len(rows) == sum(map(len, tables))
    assert {row["table"] for row in rows} == {"rates", "differences", "reconstructions", "looks"}


def test_sheets_and_report_are_written(result):
    sheets = sorted(path.name for path in (result.folder / "sheets").iterdir())
    assert sheets == ["student.png", "teacher-in-1-step.png", "teacher.png"]
    assert (result.folder / "report.html").stat().st_size > 10_000


def test_the_batch_size_changes_no_clip(models, result, tmp_path):
    config = EvaluationConfig(**(vars(CONFIG) | {"batch_size": 1, "same_steps": False}))
    models = {"student": models["student"]}
    other = evaluate(models, shapes_bench(WORLD, config), config=config, folder=tmp_path)
    first = {(c.seed): c.marks for c in result.clips if c.contender == "student"}
    assert {(c.seed): c.marks for c in other.clips} == first


def test_the_judge_sees_what_a_viewer_sees(models, tmp_path):
    seen = {"mp4": [], "raw": []}
    for measure, frames in seen.items():

        def judge(shown, expected, frames=frames):
            frames.append(shown)
            return {"right": True}

        bench = Bench(questions=(Question(prompt="a red circle"),), judge=judge)
        config = EvaluationConfig(prompts=1, seeds=1, measure=measure, same_steps=False)
        evaluate({"m": models["teacher"]}, bench, config=config, folder=tmp_path / measure)
    (mp4,), (raw,) = seen["mp4"], seen["raw"]
    assert mp4.shape == raw.shape
    assert not np.array_equal(mp4, raw)
    assert np.abs(mp4.astype(int) - raw).mean() < 40


def test_frames_are_dropped_once_they_were_looked_at(models, tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.evaluation_measure.SHEET_CLIPS", 2)
    config = dataclasses.replace(
        CONFIG, prompts=8, seeds=1, held_out_share=0.0, batch_size=2, measure="raw"
    )
    bench = shapes_bench(WORLD, config)
    (contender,), _ = lineup({"teacher": models["teacher"]}, same_steps=False)
    seen, alive = [], []

    def count(done, frames):
        seen.extend(map(weakref.ref, frames))
        alive.append(sum(ref() is not None for ref in seen))

    model = TextToVideo.open(models["teacher"])
    compete(contender, model, bench, config=config, folder=tmp_path, on_clips=count)
    assert len(seen) == 8
    assert max(alive) <= 2 + 2  # a batch, and what is on the contact sheet


def test_a_network_of_features_gives_a_distance_whose_name_says_what_it_is(models, tmp_path):
    network = str(make_vision_folder(tmp_path / "clip"))
    config = dataclasses.replace(CONFIG, feature_network=network, same_steps=False)
    bench = shapes_bench(WORLD, config)
    found = evaluate({"m": models["teacher"]}, bench, config=config, folder=tmp_path / "out")
    ((name, value),) = found.distances["m"].items()
    assert name == "fréchet distance of frames by CLIP, 6 clips of 24 x 16 against 2 of 32 x 32"
    assert value > 0
    assert name in (tmp_path / "out" / "report.html").read_text()
    metrics = as_metrics(found)
    assert metrics[f"m/{name.replace('é', 'e').replace(',', '')}"] == value
    with pytest.raises(ConfigError, match=r"evaluate\.reconstructions of at least 1"):
        bare = dataclasses.replace(bench, references=())
        evaluate({"m": models["teacher"]}, bare, config=config, folder=tmp_path / "out")


def test_prompts_from_a_file_are_generated_without_a_judge(models, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a cat"}\n\n{"prompt": "<b>a dog</b>"}\n')
    frames = np.zeros((5, 16, 24, 3), dtype=np.uint8)
    bench = file_bench(path, CONFIG, references=[frames])
    found = evaluate(models, bench, config=CONFIG, folder=tmp_path / "out")
    assert len(found.clips) == 2 * 2 * 3
    assert found.rates == found.differences == ()
    assert {m.name for m in found.reconstructions} == {"psnr", "ssim"}
    assert "<b>a dog" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("text", ["", "cats\n", '{"text": "a cat"}\n', '{"prompt": 3}\n'])
def test_a_file_without_prompts_is_told(tmp_path, text):
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match="holds no prompt"):
        file_bench(path, CONFIG)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"evaluate\.prompt_file"):
        file_bench(tmp_path / "nowhere.jsonl", CONFIG)


def test_references_that_the_autoencoder_cannot_take_are_told(models, tmp_path):
    frames = np.zeros((4, 16, 16, 3), dtype=np.uint8)
    bench = Bench(questions=(Question(prompt="x"),), references=(Reference(frames=frames),))
    with pytest.raises(ConfigError, match="4 frames"):
        evaluate(models, bench, config=CONFIG, folder=tmp_path)


def test_a_lineup_without_a_teacher_compares_nothing(models):
    contenders, pairs = lineup({"alone": models["student"]}, same_steps=True)
    assert [contender.name for contender in contenders] == ["alone"]
    assert pairs == []


def test_the_job_tracks_what_it_found(models, tmp_path, capsys):
    for name, path in models.items():
        shutil.copytree(path, tmp_path / {"teacher": "model"}.get(name, name))
    recipe = Recipe(name="tiny", project=str(tmp_path), world=WORLD, evaluate=CONFIG)
    found = run(recipe)
    assert "clips that are right" in capsys.readouterr().out
    tracker = open_tracker(TrackingConfig(), tmp_path)
    (tracked,) = tracker.client.search_runs([tracker.experiment_id])
    assert tracked.data.metrics["student/trained/binding"] == pytest.approx(
        find(found.rates, contender="student", name="binding", split="trained").interval.value
    )
    paths = {file.path for file in tracker.client.list_artifacts(tracked.info.run_id)}
    assert {"report.html", "results.json", "results.csv", "clips", "sheets"} <= paths
    roles = [parent.role for parent in lineage(tracker, tracked.info.run_id).parents]
    assert roles == ["student", "teacher"]


def test_real_clips_that_training_never_saw_are_references(tmp_path):
    from video_platform.shapes.write import write_dataset

    write_dataset(WorldConfig(num_clips=20), str(tmp_path / "videos"))
    recipe = Recipe(
        name="x",
        source=SourceConfig(url=str(tmp_path / "videos")),
        pixels=PixelPolicy(frames=5, height=16, width=24, fps=8.0),
    )
    assert [clip.shape for clip in held_out_clips(recipe, 3)] == [(5, 16, 24, 3)] * 3
    trained = dataclasses.replace(
        recipe,
        autoencoder=AutoencoderSection(
            training=TrainingConfig(steps=1, batch_size=1, micro_batch_size=1)
        ),
    )
    assert len(held_out_clips(trained, 32)) == 2  # a tenth is held out
    assert held_out_clips(Recipe(name="x"), 3) == []


def test_a_recipe_without_prompts_is_told(models, tmp_path):
    shutil.copytree(models["teacher"], tmp_path / "model")
    with pytest.raises(ConfigError, match=r"evaluate\.prompt_file"):
        run(Recipe(name="x", project=str(tmp_path), evaluate=CONFIG))
