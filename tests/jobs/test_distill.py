"""Distillation by every method, through its own job: what is learned, kept and said of it."""

import dataclasses
from pathlib import Path

import pytest

from jobs.distill import check_text_only, plan
from jobs.distill_config import DistillSection
from jobs.distill_stage import (
    SAMPLERS,
    TWO_PLAYERS,
    AddConfig,
    SecondPlayer,
    StageConfig,
    lineage,
)
from pipelines.model_folder import FramesInput
from tests.jobs.distill_ranks import CASES
from tests.jobs.latent_cache import fill
from tests.tiny import make_autoencoder, make_card, make_model, make_student_card
from tests.tiny_vision import make_vision
from tests.video_platform.training.test_engine import launch
from video_models.distillation.methods import METHODS
from video_models.formats import fingerprint, save_autoencoder
from video_models.text.encoder import open_text_encoder
from video_platform.errors import ConfigError
from video_platform.training.config import TrainingConfig

TRAINING = TrainingConfig(steps=12, batch_size=4, micro_batch_size=2)
RECIPE = """
name: tiny
pixels: {{frames: 5, height: 16, width: 16, fps: 8.0}}
text: {{kind: words, dim: 16, max_tokens: 8}}
cache: {{url: {folder}/cache}}
loader: {{prefetch_steps: 0}}
autoencoder: {{path: {folder}/vae}}
distill: {{stages: [], sample_prompts: [a red circle]}}
cluster: {{workers: 2}}
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What two gloo ranks report of a few updates by every method."""
    folder = tmp_path_factory.mktemp("distill")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder))
    model = make_autoencoder()
    save_autoencoder(model, folder / "vae")
    card = make_card()
    make_model(folder / "base", card)
    make_vision(folder / "vision")
    encoder = open_text_encoder(card.text)
    fill(f"{folder}/cache", 16, maker=fingerprint(model), encoder=encoder, shapes=[(4, 2, 4, 4)])
    script = Path(__file__).with_name("distill_ranks.py")
    return launch(folder, 2, "methods", script=script)["methods"]


def test_a_teacher_that_is_given_frames_is_refused_by_name():
    given = FramesInput(ways=((1, 0),), required=True)
    check_text_only(make_card())
    with pytest.raises(ConfigError, match=r"is given frames; .* distill\.teacher"):
        check_text_only(dataclasses.replace(make_card(), given=given))


def test_every_method_of_the_table_has_a_stage():
    assert sorted(SAMPLERS) == sorted(METHODS)
    assert sorted(TWO_PLAYERS) == [
        name for name, row in sorted(METHODS.items()) if row.step == "two_player"
    ]


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_student_moves_away_from_its_teacher_and_stays_finite(report, case):
    assert report[case]["finite"]
    assert report[case]["moved"] > 1e-4


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_stage_that_was_stopped_goes_on_to_the_same_student(report, case):
    assert report[case]["stopped"] is False
    assert report[case]["resumed"] == 0


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_stage_tells_of_gradients_throughput_and_samples(report, case):
    told = set(report[case]["told"])
    assert {"loss", "student/grad_norm", "throughput/tokens_per_s"} <= told
    assert any(name.startswith("grad_norm_by_block/") for name in told)
    assert report[case]["pictures"] == ["curves.png", "samples.png"]


@pytest.mark.parametrize("case", sorted(set(CASES) - {"rcm"}))
def test_losses_are_told_by_time_where_times_are_drawn(report, case):
    assert any(name.startswith("loss_by_time/") for name in report[case]["told"])


@pytest.mark.parametrize("case", ["add", "dmd", "dmd with heads", "ladd", "moment_matching", "rcm"])
def test_games_tell_of_their_second_network(report, case):
    assert {"second_loss", "second/grad_norm"} <= set(report[case]["told"])


@pytest.mark.parametrize("case", ["add", "dmd with heads", "ladd"])
def test_heads_tell_how_often_they_are_right(report, case):
    names = {"heads/accuracy_real", "heads/accuracy_fake", "scores/real", "scores/fake"}
    assert names | {"scores/generator"} <= set(report[case]["told"])


@pytest.mark.parametrize("method", sorted(SAMPLERS))
def test_a_students_card_says_how_it_is_sampled(report, method):
    steps = 2  # those of the teacher, for guidance
    assert report[method]["sampling"] == [SAMPLERS[method], steps, 1.0]
    assert report[method]["baked"]


def stage(method="consistency", **knobs):
    return StageConfig(**({"method": method, "training": TRAINING, "steps": 2} | knobs))


def test_stages_follow_those_that_have_names():
    section = DistillSection(guidance=TRAINING, stages=(stage("dmd", steps=4), stage(steps=1)))
    assert [each.name for each in plan(section, make_card())] == [
        "guidance", "dmd-4", "consistency-1"
    ]  # fmt: skip


def test_followers_learn_from_the_stage_before():
    stages = [stage("progressive", steps=steps) for steps in (8, 4, 2)]
    assert lineage(stages) == [(0, 0), (1, 1), (2, 2)]


def test_denoisers_teach_though_a_student_of_few_steps_came_in_between():
    stages = [
        stage("guidance", steps=None), stage(), stage("dmd"), stage("ladd", teacher="last"),
        stage(teacher="flow"),
    ]  # fmt: skip
    assert lineage(stages) == [(0, 0), (1, 1), (1, 2), (3, 3), (1, 4)]


def test_a_teacher_with_guidance_baked_in_gets_none_again():
    with pytest.raises(ConfigError, match="baked in already"):
        plan(DistillSection(guidance=TRAINING), make_student_card())


def test_a_scale_for_a_teacher_with_guidance_baked_in_is_an_error():
    baking = stage("guidance", steps=None)
    assert plan(DistillSection(stages=(stage("dmd", guidance=2.0),)), make_card())
    with pytest.raises(ConfigError, match="has guidance baked in"):
        plan(DistillSection(stages=(baking, stage("dmd", guidance=2.0))), make_card())
    with pytest.raises(ConfigError, match="has guidance baked in"):
        plan(DistillSection(stages=(stage("dmd", guidance=2.0),)), make_student_card())


def test_a_folder_without_a_vision_network_is_refused_before_anything_starts(tmp_path):
    stages = (stage("add", add=AddConfig(vision=str(tmp_path))),)
    with pytest.raises(ConfigError, match=r"add\.vision: .*DINOv2"):
        plan(DistillSection(stages=stages), make_card())


def test_clips_split_over_ranks_are_refused_in_every_stage():
    split = dataclasses.replace(TRAINING, sequence_parallel=2)
    for method in SAMPLERS:
        with pytest.raises(ValueError, match="sequence_parallel is 2"):
            stage(method, training=split, add=AddConfig(vision="v") if method == "add" else None)
    for name in ("guidance", "progressive"):
        with pytest.raises(ValueError, match=f"distill.{name}: training.sequence_parallel is 2"):
            DistillSection(**{name: split})


def test_a_section_without_a_stage_is_an_error():
    with pytest.raises(ConfigError, match=r"distill\.stages"):
        plan(DistillSection(), make_card())


@pytest.mark.parametrize(
    ("knobs", "named"),
    [
        ({"steps": None}, "needs steps"),
        ({"steps": 0}, "steps"),
        ({"steps": 4, "intervals": 6}, "multiple of steps"),
        ({"method": "scm", "training": {"zero_stage": 3}}, "forward mode"),
        ({"method": "dmd", "training": {"zero_stage": 3}}, "zero_stage 0, 1 or 2"),
        ({"target_decay": 0.9, "training": {"zero_stage": 3}}, "target_decay"),
        ({"target_decay": 1.0}, "target_decay"),
        ({"guidance": -1.0}, "guidance"),
        ({"gan_weight": 0.1}, "belongs to dmd and rcm"),
        ({"method": "dmd", "gan_weight": -0.1}, "gan_weight"),
        ({"method": "add"}, r"needs add\.vision"),
        ({"add": AddConfig(vision="v")}, "no other method takes add"),
        ({"method": "ladd", "second": SecondPlayer(optimizer="muon")}, "have no blocks"),
    ],
)
def test_a_stage_that_cannot_be_is_refused_by_name(knobs, named):
    if "training" in knobs:
        knobs = knobs | {
            "training": TrainingConfig(
                steps=1, batch_size=1, micro_batch_size=1, **knobs["training"]
            )
        }
    with pytest.raises(ValueError, match=named):
        stage(**knobs)


def test_a_second_player_is_trained_as_the_student_but_for_what_is_said():
    second = SecondPlayer(learning_rate=0.5, betas=(0.1, 0.2))
    training = stage("dmd", second=second).second_training
    assert (training.learning_rate, training.betas, training.ema_decay) == (0.5, (0.1, 0.2), None)
    assert stage("dmd").turns == 5
    assert stage("ladd").turns == 1
    assert stage("dmd", second=SecondPlayer(turns=2)).turns == 2
    recomputed = dataclasses.replace(TRAINING, activation_checkpointing=True)
    assert stage("dmd", training=recomputed).second_training.activation_checkpointing
    assert not stage("ladd", training=recomputed).second_training.activation_checkpointing


def test_a_student_that_jumps_to_the_end_is_sampled_with_new_noise():
    assert stage().sampler == "euler"
    assert stage(jumps="end", intervals=5).sampler == "consistency"
