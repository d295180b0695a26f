"""What training may start from, and which parameters a recipe chooses."""

import dataclasses

import pytest
import torch

from jobs.fine_tuning import base_of, base_run, begun
from jobs.latents import LatentSource
from jobs.pretrain_config import LoraConfig, PretrainSection
from jobs.recipe import Recipe
from pipelines.model_folder import ModelFolder
from tests.jobs.latent_cache import fill
from tests.tiny import make_autoencoder, make_card, make_model, make_student_card, make_transformer
from video_models.formats import fingerprint, save_autoencoder, save_transformer
from video_models.text.encoder import open_text_encoder
from video_platform.config import load_recipe
from video_platform.errors import ConfigError
from video_platform.tracking import lineage, open_tracker
from video_platform.tracking.config import TrackingConfig
from video_platform.training.config import TrainingConfig

TRAINING = TrainingConfig(steps=1, batch_size=2, micro_batch_size=1)


def section(**changes):
    return PretrainSection(training=TRAINING, **changes)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Give a recipe, its latents, and a folder with models to start from."""
    folder = tmp_path_factory.mktemp("world")
    recipe = load_recipe(
        Recipe,
        None,
        [
            "name=test", f"project={folder}", f"cache.url={folder}/cache",
            f"autoencoder.path={folder}/vae", "text={dim: 16, max_tokens: 8}",
            "pixels={frames: 5, height: 16, width: 16, fps: 8.0}",
        ],
    )  # fmt: skip
    model = make_autoencoder()
    save_autoencoder(model, folder / "vae")
    encoder = open_text_encoder(recipe.model_text)
    fill(f"{folder}/cache", 4, maker=fingerprint(model), encoder=encoder)
    make_model(folder / "ours")
    make_model(folder / "student", make_student_card())
    other = make_card(text_identity={"name": "other"})
    make_model(folder / "reader", other)
    save_transformer(make_transformer(), folder / "wan" / "transformer")
    return recipe, LatentSource(recipe), folder


def starting(world, name, **changes):
    recipe, source, folder = world
    chosen = section(start_from=str(folder / name), **changes)
    return begun(dataclasses.replace(recipe, pretrain=chosen), source)


@pytest.mark.parametrize("name", ["ours", "wan", "wan/transformer"])
def test_training_starts_from_any_model_folder(world, name):
    network = starting(world, name)
    for key, value in make_transformer().state_dict().items():
        assert torch.equal(network.state_dict()[key], value)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_patterns_choose_what_is_trained(world):
    network = starting(world, "ours", train=("*.attn1.*", "proj_out.bias"))
    chosen = {name for name, p in network.named_parameters() if p.requires_grad}
    assert chosen == {
        name for name in network.state_dict() if ".attn1." in name or name == "proj_out.bias"
    }


def test_a_pattern_of_nothing_is_refused(world):
    with pytest.raises(ConfigError, match=r"attn9.*matches no parameter.*patch_embedding"):
        starting(world, "ours", train=("*.attn9.*",))


def test_a_student_is_no_base(world):
    with pytest.raises(ConfigError, match="guidance baked in"):
        base_of(section(start_from=str(world[2] / "student")))


def test_a_base_of_another_text_encoder_is_refused(world):
    with pytest.raises(ConfigError, match="text encoder is not that of the recipe"):
        starting(world, "reader")


def test_a_base_that_wants_an_image_is_refused(world):
    model = make_transformer(condition_channels=3, text_padding="mask")
    save_transformer(model, world[2] / "image" / "transformer")
    with pytest.raises(
        ConfigError, match="it has condition_channels 3, for latents of given frames"
    ):
        starting(world, "image")


def test_a_base_has_its_own_size(world):
    recipe, source, folder = world
    model = dataclasses.replace(recipe.model, preset="shapes")
    recipe = dataclasses.replace(recipe, model=model, pretrain=section(start_from=f"{folder}/wan"))
    with pytest.raises(ConfigError, match=r"leave out model\.preset"):
        begun(recipe, source)


def test_a_folder_without_a_model_is_refused(world):
    with pytest.raises(ConfigError, match=r"start_from.*no config\.json"):
        starting(world, "cache")


def test_a_published_base_is_one_run_of_the_lineage(world, tmp_path):
    tracker = open_tracker(TrackingConfig(), tmp_path)
    base = base_of(section(start_from=str(world[2] / "wan")))
    run_id = base_run(tracker, base)
    assert base_run(tracker, base) == run_id
    assert lineage(tracker, run_id).kind == "transformer"


def test_a_base_that_a_run_made_leads_to_that_run(world, tmp_path):
    tracker = open_tracker(TrackingConfig(), tmp_path)
    tags = {"vdp.fingerprint": ModelFolder.open(world[2] / "ours").card.fingerprints["transformer"]}
    with tracker.start("transformer", name="earlier", params={}, tags=tags) as run:
        base = base_of(section(start_from=str(world[2] / "ours")))
        assert base_run(tracker, base) == run.id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": LoraConfig(rank=2)}, "needs start_from"),
        ({"train": (), "start_from": "model"}, "empty list"),
        ({"held_out": 1.0}, "held_out"),
    ],
)
def test_a_section_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        section(**changes)


def test_a_knob_of_adapters_that_there_is_not_is_named():
    given = ["training={steps: 1, batch_size: 1, micro_batch_size: 1}", "start_from=model"]
    with pytest.raises(ConfigError, match="rank"):
        load_recipe(PretrainSection, None, [*given, "train={rnk: 4}"])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("all", "all"),
        ("{rank: 4, alpha: 8.0}", LoraConfig(rank=4, alpha=8.0)),
        ("[blocks.*]", ("blocks.*",)),
    ],
)
def test_recipes_spell_what_is_trained_in_three_ways(value, expected):
    given = ["training={steps: 1, batch_size: 1, micro_batch_size: 1}", "start_from=model"]
    assert load_recipe(PretrainSection, None, [*given, f"train={value}"]).train == expected
