"""What training gives a model of a clip: published layout, draws by position, packed or not."""

import dataclasses

import numpy as np
import pytest
import torch

from jobs.denoising import DenoisingStep, draw_noise
from jobs.fine_tuning import fresh_size
from jobs.given import check_image_encoders
from jobs.history import History
from jobs.latents import LatentBatch, LatentSource, PackedLatents
from jobs.meter import Meter
from jobs.pretrain_config import GivenConfig, GivenFrames, ObserveConfig, PretrainSection
from jobs.recipe import ModelSection
from tests.jobs.given_world import frames_at, make_given_world
from tests.video_models.image.test_clip import make_vision_folder
from video_models.image.clip import open_image_encoder
from video_models.text.batch import drop_captions, join
from video_models.transformer.config import TransformerConfig
from video_models.transformer.family import build_transformer
from video_models.transformer.given_frames import given_frames
from video_models.transformer.joint_config import JointTransformerConfig
from video_models.transformer.model import VideoTransformer
from video_platform.batches.loader import MicroBatch
from video_platform.errors import ConfigError, StaleCacheError
from video_platform.training.config import TrainingConfig
from video_platform.training.engine import StepResult
from video_platform.training.loop import At

CLIPS = 12
TRAINING = TrainingConfig(steps=1, batch_size=4, micro_batch_size=4)
FIRST, ENDS, CLEAN = (
    GivenFrames(layer="first", chance=0.5),
    GivenFrames(layer="ends", chance=0.3),
    GivenFrames(chance=0.6),
)
SIZE = TransformerConfig(
    latent_channels=4, text_dim=16, num_heads=2, head_dim=6, ffn_dim=16, num_layers=1, freq_dim=8,
    zero_init_output=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A recipe with a cache of every layer that image to video reads."""
    folder = tmp_path_factory.mktemp("given")
    return make_given_world(folder, CLIPS)


def section(**changes):
    return PretrainSection(training=TRAINING, observe=ObserveConfig(grad_norms=False), **changes)


def opened(world, given=None, *, texts=None, **changes):
    model = dataclasses.replace(world.model, text=texts, transformer=SIZE)
    return LatentSource(
        dataclasses.replace(world, model=model, pretrain=section(given=given), **changes)
    )


def batch_of(source, indices, positions=None):
    samples = {index: source.caches[0][index] for index in indices}
    data = source.collate([samples[index] for index in indices])
    positions = tuple(positions or indices)
    return MicroBatch(data=data, indices=tuple(indices), positions=positions, share=1.0)


def pixels_of(source, indices):
    frames = np.stack([frames_at(int(source.caches[0].name(index))) for index in indices])
    return torch.from_numpy(frames).movedim(-1, 1).float() / 127.5 - 1


def test_the_condition_is_the_mask_and_the_clip_encoded_with_the_other_frames_blank(world):
    config = GivenConfig(ways=(FIRST, ENDS), image=("begin", "end"))
    source, indices = opened(world, config), [*range(8)]
    given = source.given_of(batch_of(source, indices), seed=3)
    video, shown = pixels_of(source, indices), given.condition[:, 0, :, 0, 0].bool()
    last = given.condition[:, 3, -1, 0, 0].bool()  # the last pixel frame's channel
    assert {(bool(a[0]), bool(b)) for a, b in zip(shown, last, strict=True)} == {
        (True, False), (True, True), (False, False)
    }  # fmt: skip
    known = torch.zeros(8, 5, dtype=torch.bool)
    known[:, 0], known[:, -1] = shown[:, 0], last
    blank = torch.where(known[:, None, :, None, None], video, 0)
    with torch.no_grad():
        latents = source.autoencoder.normalise(source.autoencoder.encode(blank).mode())
    latents[~shown[:, 0]] = 0  # nothing is given: nothing is encoded
    expected = given_frames(known, latents, temporal_factor=4)
    torch.testing.assert_close(given.condition, expected, atol=1e-5, rtol=1e-4)
    encoder = open_image_encoder(world.layers["begin"].path)
    pixels = ((video + 1) * 127.5).round().byte()
    begin, end = (encoder.encode(pixels[:, :, at]) for at in (0, -1))
    begin[~shown[:, 0]], end[~last] = 0, 0
    torch.testing.assert_close(given.image, torch.cat((begin, end), 1), atol=1e-5, rtol=1e-4)
    assert source.image_tokens == (10, 16)


def test_what_is_given_follows_from_seed_and_position_alone(world):
    source = opened(world, GivenConfig(ways=(FIRST, ENDS)))

    def shown(positions, seed=0):
        batch = batch_of(source, [0] * len(positions), positions)
        given = source.given_of(batch, seed).condition
        return (given[:, 0, 0, 0, 0] + given[:, 3, -1, 0, 0]).int().tolist()

    many = shown([*range(400)])
    assert shown([7, 300, 4]) == [many[7], many[300], many[4]]
    assert shown([*range(400)], seed=1) != many
    shares = [many.count(kind) / 400 for kind in (0, 1, 2)]
    assert shares == pytest.approx([0.2, 0.5, 0.3], abs=0.07)


def test_a_picture_is_given_nothing(world):
    source = opened(world, GivenConfig(ways=(GivenFrames(layer="first"),)))
    batch = batch_of(source, [0, 1])
    picture = LatentBatch(
        mean=batch.data.mean[:, :, :1],
        logvar=batch.data.logvar[:, :, :1],
        text=batch.data.text,
        layers={name: layer[:, :, :1] for name, layer in batch.data.layers.items()},
    )
    assert source.given_of(batch, 0).condition.any()
    assert not source.given_of(dataclasses.replace(batch, data=picture), 0).condition.any()


def test_clean_frames_are_the_first_latents_of_their_clip_and_no_part_of_the_loss(world):
    source = opened(world, GivenConfig(ways=(GivenFrames(),)))
    batch = batch_of(source, [0, 1, 2])
    given = source.given_of(batch, 0)
    assert given.condition is None
    assert given.known.tolist() == [[True, False]] * 3
    with torch.no_grad():  # the picture by itself is encoded to the same
        alone = source.autoencoder.encode(pixels_of(source, [0, 1, 2])[:, :, :1]).mode()
    normalised = source.autoencoder.normalise(alone)[:, :, 0]
    torch.testing.assert_close(given.clean[:, :, 0], normalised, atol=1e-5, rtol=1e-4)

    seen = []

    class Recorded(VideoTransformer):
        def forward(self, latents, t, text, **beside):
            seen.append((latents, t))
            return torch.zeros_like(latents)

    engine = Gradients(Recorded(SIZE))
    t, losses = losses_of(source, engine, batch)
    ((latents, times),) = seen
    torch.testing.assert_close(latents[:, :, 0], normalised, atol=1e-5, rtol=1e-4)
    assert times.tolist() == [[0] * 4 + [time.item()] * 4 for time in t]
    target = draw_target(source, batch)[:, :, 1:]
    torch.testing.assert_close(losses, target.square().flatten(1).mean(dim=1))


def draw_target(source, batch):
    return draw_noise(batch, 0) - source.latents(batch, 0)


class Gradients:
    """An engine that only adds gradients up."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, module):
        self.module = module

    def backward(self, loss, *, share):
        (loss * share).backward()

    def step(self, *, by_block=False):
        return StepResult(applied=True, grad_norm=1.0, learning_rate=0.0)


def step_of(source, engine, **changes):
    given = source.given.config if source.given else None
    return DenoisingStep(
        engine=engine,
        source=source,
        section=section(given=given, caption_dropout=0.0, **changes),
        meter=Meter(engine.module.config, world=1),
        history=History(),
    )


def losses_of(source, engine, batch):
    return step_of(source, engine)._losses(batch, 0)


JOINT = JointTransformerConfig(
    latent_channels=4, text_dim=16, num_heads=2, head_dim=6, ffn_dim=16, num_layers=1,
    num_single_layers=1, pooled_dim=12, zero_init_output=False,
)  # fmt: skip
BOTH = GivenConfig(ways=(FIRST, ENDS), image=("begin",))
INPUTS = {"condition_channels": 8, "image_dim": 16, "more_text_dims": (24,)}
KINDS = {
    "condition": (BOTH, dataclasses.replace(SIZE, **INPUTS), ("words", "wide")),
    "clean": (GivenConfig(ways=(CLEAN,)), SIZE, ("words",)),
    "joint": (
        GivenConfig(ways=(FIRST,)),
        dataclasses.replace(JOINT, condition_channels=8, guidance_embedding=True),
        ("words", "whole"),
    ),
    "joint clean": (GivenConfig(ways=(CLEAN,)), JOINT, ("words", "whole")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_packed_clips_learn_what_they_learn_apart(world, kind):
    config, size, texts = KINDS[kind]
    source = opened(world, config, texts=texts)
    torch.manual_seed(0)
    engine, scale = Gradients(build_transformer(size)), 1.0 if size.guidance_embedding else None
    clips = [batch_of(source, [index]) for index in range(4)]
    for row, rows in enumerate((4, 2, 2, 4)):  # of two shapes
        data = clips[row].data
        cut = {name: x[..., :rows, :] if name != "begin" else x for name, x in data.layers.items()}
        data = LatentBatch(data.mean[..., :rows, :], data.logvar[..., :rows, :], data.text, cut)
        clips[row] = dataclasses.replace(clips[row], data=data, share=0.25)

    def gradients(batches):
        engine.module.zero_grad()
        totals = step_of(source, engine, guidance=scale).update(batches, At(0, 0))
        return totals["loss"], [p.grad.clone() for p in engine.module.parameters()]

    data = PackedLatents(tuple(c.data for c in clips), join(*(c.data.text for c in clips)))
    packed = MicroBatch(data=data, indices=(0, 1, 2, 3), positions=(0, 1, 2, 3), share=1.0)
    loss, apart = gradients(clips)
    packed_loss, found = gradients([packed])
    assert packed_loss == pytest.approx(loss.item(), rel=1e-5)
    for gradient, expected in zip(found, apart, strict=True):
        assert (gradient - expected).norm() <= 1e-5 * expected.norm() + 1e-9


def test_all_text_encoders_reach_the_model_and_are_dropped_together(world):
    source = opened(world, texts=("wide", "words"))
    text = batch_of(source, [0, 1]).data.text
    assert text.lengths == (6, 8)
    assert [each.shape[-1] for each in text.inputs[0]] == [24, 16]
    dropped = drop_captions(text, source.empty_text, torch.tensor([True, False]))
    for now, before, empty in zip(
        dropped.inputs[0], text.inputs[0], source.empty_text.inputs[0], strict=True
    ):
        assert torch.equal(now[0], empty[0])
        assert torch.equal(now[1], before[1])
        assert not torch.equal(now[0], before[0])


@pytest.mark.parametrize(
    ("inputs", "given", "texts", "words"),
    [
        ({}, None, ("words", "wide"), r"text_dim and more_text_dims.*names words, wide of widths"),
        ({"more_text_dims": (24,)}, None, None, r"texts of widths \[16, 24\]"),
        ({"condition_channels": 8}, None, None, "name a layer of kind given"),
        ({"condition_channels": 8}, CLEAN, None, "name a layer of kind given"),
        ({"condition_channels": 7}, FIRST, None, "mask and latents are 8: give it as many"),
        ({}, FIRST, None, "leave out `layer`"),
        ({}, GivenFrames(first=3), None, "no whole tokens; allowed are 1, 5, 9"),
        ({"image_dim": 9}, CLEAN, None, "image_dim 9, and pretrain.given.image gives no tokens"),
        ({"guidance_embedding": True}, None, None, "guidance_embedding true.*guidance is None"),
    ],
)
def test_a_model_and_a_recipe_that_do_not_fit_are_told_by_name(world, inputs, given, texts, words):
    given = None if given is None else GivenConfig(ways=(given,))
    size = dataclasses.replace(SIZE, **inputs)
    recipe = dataclasses.replace(
        world,
        model=ModelSection(transformer=size, text=texts),
        pretrain=section(given=given),
    )
    with pytest.raises(ConfigError, match=words):
        fresh_size(recipe, LatentSource(recipe))


def test_a_joint_model_takes_tokens_of_one_encoder_and_the_whole_text_of_another(world):
    wide = dataclasses.replace(JOINT, pooled_dim=24)
    for size, texts, words in (
        (JOINT, ("words",), r"texts of widths \[16, 12\] \(text_dim and pooled_dim\)"),
        (wide, ("words", "wide"), "output: pooled"),
    ):
        model = ModelSection(joint_transformer=size, text=texts)
        recipe = dataclasses.replace(world, model=model, pretrain=section())
        with pytest.raises(ConfigError, match=words):
            fresh_size(recipe, LatentSource(recipe))
    model = ModelSection(joint_transformer=JOINT, text=("words", "whole"))
    recipe = dataclasses.replace(world, model=model, pretrain=section())
    assert fresh_size(recipe, LatentSource(recipe)) == JOINT


def test_a_preset_follows_what_is_given(world):
    model = ModelSection(preset="shapes", text=("words", "wide"))
    given = GivenConfig(ways=(FIRST,), image=("begin", "end"))
    recipe = dataclasses.replace(world, model=model, pretrain=section(given=given))
    size = fresh_size(recipe, LatentSource(recipe))
    assert (size.latent_channels, size.text_dim, size.more_text_dims) == (4, 16, (24,))
    assert (size.condition_channels, size.image_dim) == (8, 16)


def test_layers_that_the_recipe_or_the_cache_lack_are_told_by_name(world):
    given = GivenConfig(ways=(GivenFrames(layer="begin"),))
    with pytest.raises(ConfigError, match=r"'begin' as a layer of kind given; .* first, ends"):
        opened(world, given)
    given = GivenConfig(ways=(FIRST,))
    layers = {**world.layers, "first": dataclasses.replace(world.layers["first"], last=1)}
    with pytest.raises(StaleCacheError, match=r"layer\.first\.made_by\.shown\.last is 0, not 1"):
        opened(world, given, layers=layers)
    layers = {**world.layers, "other": world.layers["first"]}
    with pytest.raises(StaleCacheError, match="it holds no layer 'other', only begin, end, ends"):
        opened(world, GivenConfig(ways=(GivenFrames(layer="other"),)), layers=layers)


def test_another_image_encoder_than_that_of_the_cache_is_told(world, tmp_path):
    source = opened(world, GivenConfig(ways=(FIRST,), image=("begin",)))
    check_image_encoders(world, source.image_identities)
    folder = make_vision_folder(tmp_path / "other", seed=9)
    layers = {**world.layers, "begin": dataclasses.replace(world.layers["begin"], path=str(folder))}
    with pytest.raises(ConfigError, match=r"layers\.begin: the cache was made by another"):
        check_image_encoders(dataclasses.replace(world, layers=layers), source.image_identities)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GivenConfig(ways=()), "at least one"),
        (lambda: GivenConfig(ways=(FIRST, FIRST, FIRST)), "chances of 1.5 in all"),
        (lambda: GivenConfig(ways=(FIRST, GivenFrames(chance=0.1))), "all ways name a layer"),
        (lambda: GivenFrames(chance=0.0), "chance = 0.0"),
        (lambda: GivenFrames(layer="first", first=5), "left out with a layer"),
        (
            lambda: section(given=GivenConfig(ways=(GivenFrames(),)), sample_prompts=("a",)),
            "use sample_clips",
        ),
    ],
)
def test_a_section_that_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
