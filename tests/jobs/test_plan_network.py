"""A plan counts the transformer that is trained, of either family, with all that it is given."""

import dataclasses
import json

import pytest

from jobs.plan import run
from jobs.plan_activations import _count_transformer, deciding, held_by_transformer
from jobs.plan_network import Network
from jobs.plan_subject import subjects
from jobs.recipe import Recipe
from tests.benchmarks.plan_memory import TINY
from tests.jobs.test_plan import RECIPES, WAN
from tests.video_models.transformer.tiny_joint import CONFIG
from video_models.formats import save_transformer
from video_models.presets import JOINT_TRANSFORMERS, TRANSFORMERS
from video_models.transformer.costs import parameter_count, transformer_costs
from video_models.transformer.family import build_transformer
from video_models.transformer.joint_costs import joint_costs, joint_parameter_count
from video_platform.config import load_recipe
from video_platform.errors import ConfigError
from video_platform.training.config import TrainingConfig

JOINT = """{latent_channels: 16, text_dim: 64, num_heads: 4, head_dim: 12, ffn_dim: 64,
    num_layers: 1, num_single_layers: 1, num_refiner_layers: 1, pooled_dim: 32,
    guidance_embedding: true}"""
CLIP = "{kind: clip, path: nowhere/clip, output: pooled}"
T5 = "{kind: t5, path: nowhere/t5, max_tokens: 226}"
SIZE = (21, 60, 104)
AGAIN = {"activation_checkpointing": True}
NO_PROMPTS = "pretrain.sample_prompts=[]"
GIVEN = "layers={frame: {kind: given}, image: {kind: image, path: nowhere/clip}}"


def recipe_of(*overrides):
    return load_recipe(Recipe, RECIPES / "shapes-demo.yaml", (*WAN, *overrides))


def work_of(*overrides):
    """Return the transformer that a recipe trains, and the operations of one of its clips."""
    (subject,) = subjects(recipe_of(*overrides))
    return subject, subject.work(subject.shapes[0])


@pytest.mark.parametrize(
    ("name", "billions"), [("hunyuan-video", 12.8), ("flux-12b", 11.9), ("joint-25m", 0.0226)]
)
def test_joint_presets_are_planned(name, billions):
    subject, work = work_of(f"model.preset={name}")
    assert subject.parameters / 1e9 == pytest.approx(billions, rel=0.05)
    preset = JOINT_TRANSFORMERS[name]
    assert subject.layers == preset.num_layers + preset.num_single_layers
    assert (work.tokens, work.sequence) == (32760, 32760 + 512)
    # The words of the recipe are 64 wide; a product that they enter learns no input.
    less = 2 * 512 * (preset.text_dim - 64) * preset.dim
    costs = joint_costs(preset, SIZE, text_tokens=512)
    mean = 2 * (preset.text_dim - 64) * preset.dim if preset.num_refiner_layers else 0
    assert work.forward == costs.forward.total - less - mean
    assert work.backward == costs.backward.total - less - mean


def test_every_setting_of_the_engine_is_planned_for_a_joint_transformer(capsys):
    model = ("model.preset=null", f"model.joint_transformer={JOINT}")
    run(recipe_of(*model, "plan.gpus=2"), as_json=True)
    [tree] = json.loads(capsys.readouterr().out)
    knobs = [setting["knobs"] for setting in tree["settings"]]
    assert {knob["sequence_parallel"] for knob in knobs} == {1, 2}
    assert {knob["zero_stage"] for knob in knobs} == {1, 2, 3}, "bf16 has no stage 0"
    assert {knob["offload_optimizer"] for knob in knobs} == {"none", "cpu"}
    plain = {"zero_stage": 1, "offload_optimizer": "none"}

    def activations(**wanted):
        (found,) = (
            setting["device_bytes"]["activations"]
            for setting in tree["settings"]
            if (plain | wanted).items() <= setting["knobs"].items()
        )
        return found

    kept = {"sequence_parallel": 1, "activation_checkpointing": False}
    whole = activations(**kept)
    again = {"activation_checkpointing": True, "checkpoint_keeps": "inputs"}
    assert activations(**kept | again, checkpoint_every_block=1) < 0.9 * whole
    assert 0.4 * whole < activations(**kept | {"sequence_parallel": 2}) < 0.7 * whole
    assert tree["chosen"]["fits"]


@pytest.mark.parametrize(
    ("config", "again"),
    [
        (dataclasses.replace(CONFIG, num_layers=3, num_single_layers=5), AGAIN),
        (dataclasses.replace(CONFIG, num_layers=0, num_single_layers=6), {}),
        (dataclasses.replace(CONFIG, num_layers=5), AGAIN | {"checkpoint_every_block": 2}),
        (dataclasses.replace(TINY, num_layers=4), AGAIN | {"checkpoint_keeps": "products"}),
    ],
)
def test_blocks_that_are_not_counted_take_what_those_before_them_do(config, again):
    network = Network(config=config, text_tokens=(5,))
    knobs = TrainingConfig(steps=1, batch_size=1, micro_batch_size=1, **again)
    found = held_by_transformer(network, (4, 16, 16), knobs, batch=1)
    counted = _count_transformer(network, deciding(knobs), (1, 4, 16, 16), "all")
    assert found.trained == counted.trained == network.parameters
    assert found.activations == counted.activations
    assert found.matrices == counted.matrices
    assert 0 < found.last_activations < counted.activations


def test_texts_of_several_encoders_are_counted():
    texts = f"text=[{{max_tokens: 512}}, {T5}]"
    subject, work = work_of("model.preset=wan-2.1-1.3b", texts, "model.text=[words, t5]")
    size = dataclasses.replace(TRANSFORMERS["wan-2.1-1.3b"], text_dim=64, more_text_dims=(4096,))
    costs = transformer_costs(size, SIZE, text_tokens=(512, 226))
    assert subject.parameters == parameter_count(size)
    assert (work.forward, work.backward) == (costs.forward.total, costs.backward.total)


def test_the_pooled_text_of_a_joint_transformer_is_as_wide_as_its_encoder_gives_it():
    texts = f"text=[{T5}, {CLIP}]"
    subject, work = work_of("model.preset=joint-25m", texts, "model.text=[t5, clip]")
    size = JOINT_TRANSFORMERS["joint-25m"]
    size = dataclasses.replace(size, pooled_dim=768)
    costs = joint_costs(size, SIZE, text_tokens=226)
    assert subject.parameters == joint_parameter_count(size)
    assert (work.forward, work.backward) == (costs.forward.total, costs.backward.total)


def test_given_frames_and_image_tokens_are_counted():
    given = "pretrain.given={ways: [{layer: frame}], image: [image]}"
    subject, work = work_of("model.preset=wan-2.1-1.3b", GIVEN, given, NO_PROMPTS)
    size = dataclasses.replace(
        TRANSFORMERS["wan-2.1-1.3b"], text_dim=64, condition_channels=20, image_dim=1280
    )
    costs = transformer_costs(size, SIZE, text_tokens=512, image_tokens=257)
    assert subject.parameters == parameter_count(size)
    assert (work.forward, work.backward) == (costs.forward.total, costs.backward.total)


def test_a_time_for_each_token_is_counted_where_given_frames_stay_clean():
    plain = work_of("model.preset=wan-2.1-1.3b")[1]
    given = "pretrain.given={ways: [{first: 1}]}"
    work = work_of("model.preset=wan-2.1-1.3b", given, NO_PROMPTS)[1]
    size = TRANSFORMERS["wan-2.1-1.3b"]
    per_time = 2 * (size.freq_dim + size.dim + 6 * size.dim) * size.dim
    assert work.forward - plain.forward == (32760 - 1) * per_time


def test_what_training_starts_from_says_its_own_size(tmp_path):
    model = build_transformer(CONFIG)
    save_transformer(model, tmp_path / "model" / "transformer")
    base = f"pretrain.start_from={tmp_path / 'model'}"
    subject, _ = work_of("model.preset=null", base)
    assert subject.parameters == sum(p.numel() for p in model.parameters())
    (tuned,) = subjects(recipe_of("model.preset=null", base, "pretrain.train={rank: 2}"))
    # Four matrices of a dual block and three of a single one, all 24 x 24, and the refiner's.
    assert tuned.trained == 2 * 2 * 24 * (2 * 4 + 2 * 3 + 2 * 4)
    with pytest.raises(ConfigError, match=r"is not a model folder: .* name model\.preset"):
        subjects(recipe_of("model.preset=null", f"pretrain.start_from={tmp_path / 'none'}"))


def test_more_texts_than_a_transformer_takes_are_refused():
    size = JOINT.replace("pooled_dim: 32,", "")
    model = ("model.preset=null", f"model.joint_transformer={size}")
    texts = (f"text=[{{max_tokens: 8}}, {CLIP}]", "model.text=[words, clip]")
    with pytest.raises(ConfigError, match="names 2 text encoders; the transformer takes 1"):
        subjects(recipe_of(*model, *texts))
