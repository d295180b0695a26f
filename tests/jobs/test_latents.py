"""Latents as training takes them: several caches, a held-out share, exact resume, equal steps."""

import dataclasses
import itertools
from collections import Counter

import pytest

from jobs.latents import LatentSource
from jobs.recipe import AutoencoderSection, Recipe
from tests.jobs.latent_cache import SHAPES, fill
from tests.tiny import make_autoencoder
from tests.video_platform.latents.toy import POLICY
from video_models.formats import fingerprint, save_autoencoder
from video_models.text.encoder import open_text_encoder
from video_platform.batches.config import CacheShare, LoaderConfig
from video_platform.batches.loader import Place
from video_platform.cluster import WorkerContext
from video_platform.errors import CheckpointError, StaleCacheError
from video_platform.latents.config import CacheConfig
from video_platform.training.config import TrainingConfig

CONFIG = TrainingConfig(steps=9, batch_size=4, micro_batch_size=2, seed=5)
NOTHING_AHEAD = LoaderConfig(prefetch_steps=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Give a recipe over a cache of 30 clips, and the URL of another of 12."""
    folder = tmp_path_factory.mktemp("caches")
    model = make_autoencoder()
    save_autoencoder(model, folder / "vae")
    recipe = Recipe(
        name="test",
        project=str(folder),
        pixels=POLICY,
        cache=CacheConfig(url=str(folder / "films")),
        autoencoder=AutoencoderSection(path=str(folder / "vae")),
        loader=NOTHING_AHEAD,
    )
    encoder = open_text_encoder(recipe.model_text)
    fill(str(folder / "films"), 30, maker=fingerprint(model), encoder=encoder)
    fill(str(folder / "images"), 12, maker=fingerprint(model), encoder=encoder, first=100)
    fill(str(folder / "foreign"), 3, maker="b" * 64, encoder=encoder)
    return recipe, str(folder / "images"), str(folder / "foreign")


def mixed(recipe, *urls):
    shares = [CacheShare(url=recipe.cache.url, weight=2)]
    shares += [CacheShare(url=url) for url in urls]
    return dataclasses.replace(recipe, mix=tuple(shares))


def steps_of(source, config, count, *, rank=0, world=1, state=None):
    context = WorkerContext(
        rank=rank, world=world, device="cpu", report=print, stop_reason=lambda: None
    )
    loader = source.loader(source.split(0.2, seed=0)[1], config, context)
    if state is not None:
        loader.load_state_dict(state)
    return list(itertools.islice(loader.steps(), count)), loader.state_dict()


def samples(steps):
    return sorted(
        pair
        for step in steps
        for batch in step
        if batch.share
        for pair in zip(batch.positions, batch.indices, strict=True)
    )


def test_a_split_holds_back_a_share_and_leaves_the_rest(made):
    source = LatentSource(mixed(*made[:2]))
    held_out, trained = source.split(0.2, seed=3)
    places = [[*part.places] for part in (*held_out, *trained)]
    assert sorted(itertools.chain(*places)) == list(range(42))
    assert sum(len(part.places) for part in held_out) == int(0.2 * 42)
    shown = [i for batch in source.fixed_batches(held_out, most=99) for i in batch.indices]
    assert sorted(shown) == sorted(i for part in held_out for i in part.places)
    few = [i for batch in source.fixed_batches(held_out, most=4) for i in batch.indices]
    assert len(few) == 4
    assert {*few} <= {*shown}
    assert [part.places[:] for part in source.split(0.0, seed=3)[0]] != []


def test_ranks_share_fixed_batches_and_take_equally_many(made):
    source = LatentSource(mixed(*made[:2]))
    held_out, _ = source.split(0.2, seed=3)
    ranks = [
        list(source.fixed_batches(held_out, most=7, place=Place(rank=rank, world=4)))
        for rank in range(4)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    taken = [i for batches in ranks for batch in batches if batch.share for i in batch.indices]
    alone = [i for batch in source.fixed_batches(held_out, most=7) for i in batch.indices]
    assert sorted(taken) == sorted(alone)
    company = [batch for batches in ranks for batch in batches if not batch.share]
    assert company
    assert {i for batch in company for i in batch.indices} <= {*alone}


def test_caches_are_mixed_by_weight_and_never_within_a_batch(made):
    steps, _ = steps_of(LatentSource(mixed(*made[:2])), CONFIG, 30)
    kinds = [{index >= 30 for batch in step for index in batch.indices} for step in steps]
    assert all(len(kind) == 1 for kind in kinds)
    windows = [kinds[start : start + 3] for start in range(0, 30, 3)]
    assert all(Counter(map(min, window)) == {False: 2, True: 1} for window in windows)
    assert {batch.data.mean.shape[1:] for step in steps for batch in step} == {*SHAPES}


def test_resume_at_another_world_and_micro_batch_size_goes_on_with_the_same_samples(made):
    source = LatentSource(mixed(*made[:2]))
    whole, _ = steps_of(source, CONFIG, 9)
    began, state = steps_of(source, CONFIG, 4)
    smaller = dataclasses.replace(CONFIG, micro_batch_size=1)
    rest = [
        step
        for rank in range(3)
        for step in steps_of(source, smaller, 5, rank=rank, world=3, state=state)[0]
    ]
    assert samples([*began, *rest]) == samples(whole)


def test_batches_of_tokens_cost_the_same_whatever_the_shape(made):
    config = TrainingConfig(
        steps=9, batch_tokens=128, micro_batch_tokens=64, batch_multiple=2, seed=5
    )
    source = LatentSource(made[0])
    for rank in range(2):
        for step in steps_of(source, config, 12, rank=rank, world=2)[0]:
            tokens = sum(batch.data.mean[:, 0].numel() for batch in step)
            assert tokens == 128 // 2
            assert all(batch.data.mean[:, 0].numel() <= 64 for batch in step)
            assert sum(batch.share for batch in step) == 0.5


def test_a_run_goes_on_with_its_own_snapshot_only(made):
    recipe, images, _ = made
    source = LatentSource(recipe)
    _, state = steps_of(source, CONFIG, 2)
    words = r"began with: cache\.id is '.*', not '.*'; use its recipe"
    with pytest.raises(CheckpointError, match=words):
        other = dataclasses.replace(recipe, mix=(CacheShare(url=images),))
        steps_of(LatentSource(other), CONFIG, 1, state=state)
    with pytest.raises(CheckpointError, match="seed is 6, not 5"):
        steps_of(source, dataclasses.replace(CONFIG, seed=6), 1, state=state)
    with pytest.raises(CheckpointError, match=r"began with: cache-2 is .*, not None; use"):
        steps_of(LatentSource(mixed(recipe, images)), CONFIG, 1, state=state)


def test_workers_open_the_snapshot_that_the_driver_opened(made):
    recipe, images, _ = made
    source = LatentSource(mixed(recipe, images))
    pinned = source.pinned(recipe)
    assert [share.snapshot for share in pinned.mix] == [1, 1]
    assert [share.weight for share in pinned.mix] == [2, 1]
    assert LatentSource(pinned).snapshots == source.snapshots
    assert [*source.snapshots] == ["cache", "cache-2"]


def test_a_cache_of_another_autoencoder_is_refused_in_a_mix(made):
    recipe, _, foreign = made
    with pytest.raises(StaleCacheError, match=r"the cache .*foreign was made otherwise: autoenc"):
        LatentSource(mixed(recipe, foreign))


def test_a_recipe_puts_the_project_folder_into_a_mix():
    recipe = Recipe(name="a", project="here", mix=(CacheShare(url="{project}/cache"),))
    assert recipe.mix[0].url == "here/cache"
    with pytest.raises(ValueError, match=r"weight = 0; it must be above 0"):
        CacheShare(url="a", weight=0)
