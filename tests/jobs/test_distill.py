"""Distillation by every method, through its own job: what is learned, kept and said of it."""

from pathlib import Path

import pytest

from jobs.distill import plan
from jobs.distill_config import DistillSection
from jobs.distill_stage import SAMPLERS, TWO_PLAYERS, SecondPlayer, StageConfig
from tests.jobs.latent_cache import fill
from tests.tiny import make_autoencoder, make_card, make_model, make_student_card
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
distill: {{stages: []}}
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
    encoder = open_text_encoder(card.text)
    fill(f"{folder}/cache", 16, maker=fingerprint(model), encoder=encoder, shapes=[(4, 2, 4, 4)])
    script = Path(__file__).with_name("distill_ranks.py")
    return launch(folder, 2, "methods", script=script)["methods"]


def test_every_method_of_the_table_has_a_stage_but_the_one_that_needs_pixels():
    assert sorted(SAMPLERS) == sorted(set(METHODS) - {"add"})
    assert sorted(TWO_PLAYERS) == [
        name for name, row in sorted(METHODS.items()) if row.step == "two_player" and name != "add"
    ]


@pytest.mark.parametrize("method", sorted(SAMPLERS))
def test_a_student_moves_away_from_its_teacher_and_stays_finite(report, method):
    assert report[method]["finite"]
    assert report[method]["moved"] > 1e-4


@pytest.mark.parametrize("method", sorted(SAMPLERS))
def test_a_stage_that_was_stopped_goes_on_to_the_same_student(report, method):
    assert report[method]["stopped"] is False
    assert report[method]["resumed"] == 0


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


def test_a_teacher_with_guidance_baked_in_gets_none_again():
    with pytest.raises(ConfigError, match="baked in already"):
        plan(DistillSection(guidance=TRAINING), make_student_card())


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
