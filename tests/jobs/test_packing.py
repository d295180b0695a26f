"""Packed micro-batches train exactly as the same samples do one shape at a time."""

import dataclasses

import pytest
import torch

from jobs.denoising import DenoisingStep
from jobs.history import History
from jobs.latents import LatentSource, PackedLatents, parts_of
from jobs.meter import Meter
from jobs.pretrain_config import ObserveConfig, PretrainSection
from jobs.recipe import AutoencoderSection, Recipe
from tests.jobs.latent_cache import SHAPES, fill
from tests.tiny import make_autoencoder, make_transformer
from tests.video_platform.latents.toy import POLICY
from video_models.formats import fingerprint, save_autoencoder
from video_models.text.encoder import open_text_encoder
from video_platform.batches.config import LoaderConfig
from video_platform.cluster import WorkerContext
from video_platform.errors import ConfigError
from video_platform.latents.config import CacheConfig
from video_platform.training.config import TrainingConfig
from video_platform.training.engine import StepResult
from video_platform.training.loop import At

APART = TrainingConfig(steps=9, batch_tokens=256, micro_batch_tokens=48, draws=4, seed=5)
PACKED = dataclasses.replace(APART, pack=True)


class Gradients:
    """An engine that only adds gradients up."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, text_dim):
        self.module = make_transformer(text_padding="mask")
        embedder = self.module.condition_embedder.text_embedder
        embedder.linear_1 = torch.nn.Linear(text_dim, self.module.config.dim)
        torch.nn.init.normal_(embedder.linear_1.weight, generator=torch.Generator().manual_seed(0))
        torch.nn.init.zeros_(embedder.linear_1.bias)

    def backward(self, loss, *, share):
        (loss * share).backward()

    def step(self, *, by_block=False):
        return StepResult(applied=True, grad_norm=1.0, learning_rate=0.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    model = make_autoencoder()
    save_autoencoder(model, folder / "vae")
    recipe = Recipe(
        name="test",
        project=str(folder),
        pixels=POLICY,
        cache=CacheConfig(url=str(folder / "films")),
        autoencoder=AutoencoderSection(path=str(folder / "vae")),
        loader=LoaderConfig(prefetch_steps=0),
    )
    encoder = open_text_encoder(recipe.model_text)
    fill(recipe.cache.url, 40, maker=fingerprint(model), encoder=encoder)
    return LatentSource(recipe)


def loader_of(source, config, *, rank=0, world=1, packs=True):
    given = {"device": "cpu", "report": print, "stop_reason": lambda: None}
    context = WorkerContext(rank=rank, world=world, **given)
    return source.loader(source.split(0.0, seed=0)[1], config, context, packs=packs)


def trained(source, config, *, world=1, step=0):
    """Return gradients and scalars of one step, summed over ranks."""
    engine = Gradients(source.text_encoder.dim)
    scalars = {}
    for rank in range(world):
        section = PretrainSection(training=config, observe=ObserveConfig(grad_norms=False))
        update = DenoisingStep(
            engine=engine,
            source=source,
            section=section,
            meter=Meter(engine.module.config, world=world),
            history=History(),
        ).update
        batches = loader_of(source, config, rank=rank, world=world).load(step)
        for name, value in update(batches, At(step, config.seed)).items():
            scalars[name] = scalars.get(name, 0.0) + float(value)
    return {name: p.grad for name, p in engine.module.named_parameters()}, scalars


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("step", [0, 3])
def test_gradients_and_losses_are_those_of_the_same_samples_unpacked(source, world, step):
    expected, apart = trained(source, APART, step=step)
    gradients, packed = trained(source, PACKED, world=world, step=step)
    for name, gradient in gradients.items():
        error = (gradient - expected[name]).norm() / expected[name].norm()
        assert error < 1e-5, name
    for name in ("loss", "batch/clips", "batch/tokens", "batch/tflop"):
        assert packed[name] == pytest.approx(apart[name], rel=1e-5), name
    assert {name for name in packed if "by_time" in name} == {n for n in apart if "by_time" in n}


def test_a_step_has_the_same_samples_at_the_same_places_packed_or_not(source):
    def samples(config, world):
        return sorted(
            pair
            for rank in range(world)
            for batch in loader_of(source, config, rank=rank, world=world).load(2)
            if batch.share
            for pair in zip(batch.positions, batch.indices, strict=True)
        )

    assert samples(PACKED, 1) == samples(PACKED, 3) == samples(APART, 1) == samples(APART, 2)


def test_micro_batches_hold_several_shapes_up_to_their_tokens(source):
    shapes = set()
    for step in range(6):
        for batch in loader_of(source, PACKED).load(step):
            parts = parts_of(batch)
            tokens = [part.data.mean[:, 0].numel() for part in parts]
            assert sum(tokens) <= 48
            assert sum(part.share for part in parts) == pytest.approx(batch.share)
            if isinstance(batch.data, PackedLatents):
                shapes.add(frozenset(part.data.mean.shape[1:] for part in parts))
    assert any(len(each) > 1 for each in shapes)
    assert {shape for each in shapes for shape in each} == {*SHAPES}


def test_packing_needs_fewer_passes_and_says_how_full_they_are(source):
    def passes(config):
        batches = [loader_of(source, config).load(step) for step in range(6)]
        return sum(map(len, batches)), [batch[0].load for batch in batches]

    apart, _ = passes(APART)
    packed, loads = passes(PACKED)
    assert packed < apart
    assert all(0.8 < load.fill <= 1 and 0.8 < load.balance <= 1 for load in loads)


def test_a_job_that_takes_one_shape_at_a_time_refuses_to_pack(source):
    with pytest.raises(ConfigError, match=r"takes micro-batches of one shape; set pack to false"):
        loader_of(source, PACKED, packs=False)
