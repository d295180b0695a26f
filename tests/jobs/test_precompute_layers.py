"""Everything that a cache may hold besides latents, made on the road that latents take."""

import dataclasses
import shutil

import pytest
import torch

from jobs.latents import LatentSource
from jobs.precompute_config import FidelityConfig, LayerConfig
from jobs.precompute_latents import precompute
from jobs.recipe import ModelSection
from tests.jobs.precompute_world import (
    CLIPS,
    LIMITS,
    POLICY,
    clips_of,
    config_for,
    make_world,
    recipe_for,
    run_precompute,
    save_tokens,
)
from tests.video_models.image.test_clip import make_vision_folder
from tests.video_models.text.test_huggingface import make_text_folder
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.formats import open_autoencoder
from video_models.image.clip import open_image_encoder
from video_models.text.config import TextConfig
from video_models.text.encoder import open_text_encoder
from video_platform.cluster import start
from video_platform.cluster_config import ClusterConfig
from video_platform.errors import CacheError, ConfigError, StaleCacheError
from video_platform.latents import open_cache, verify
from video_platform.storage import open_store
from video_platform.video.control import METHODS, control_map
from video_platform.video.decode import decode

WORDS = TextConfig(dim=8, max_tokens=4)


@pytest.fixture(scope="module")
def ray_running():
    with start(ClusterConfig(num_cpus=2)):
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Videos with captions, and folders of random weights of everything that reads them."""
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    save_tokens(folder / "tokens")
    make_vision_folder(folder / "vision")
    for kind in ("t5", "byt5", "clip"):
        make_text_folder(kind, folder / kind)
    return folder


@pytest.fixture(scope="module")
def finished(ray_running, world):
    """A cache of latents and words alone."""
    config = config_for(str(world / "cache"))
    run_precompute(world, config, quiet, text=WORDS)
    return config


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it, to be added to."""
    shutil.copytree(finished.url, tmp_path / "cache")
    return dataclasses.replace(finished, url=str(tmp_path / "cache"))


def quiet(now):
    """Take no notice."""


def encoders(world):
    published = {"t5": {}, "byt5": {}, "clip": {}, "clip-pooled": {"output": "pooled"}}
    return tuple(
        TextConfig(kind=name.split("-")[0], name=name, path=str(world / name.split("-")[0]), **more)
        for name, more in published.items()
    )


def latent_files(config):
    """What lies in the latent layer, byte for byte."""
    root = open_store(config.url)
    return {key: root.read(key) for key in root.list("latent")}


def frames_of(world, sample):
    return decode(world / "videos" / sample.id, policy=POLICY, limits=LIMITS).frames


@pytest.fixture(scope="module")
def several(finished, world, tmp_path_factory):
    """A copy to which encoders were added where nothing can decode, and the report of that."""
    folder = tmp_path_factory.mktemp("several") / "cache"
    shutil.copytree(finished.url, folder)
    config = dataclasses.replace(finished, url=str(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("video_platform.latents.fill.Stages", None)  # what decodes
        report = run_precompute(world, config, quiet, text=(WORDS, *encoders(world)))
    return config, report


def test_several_encoders_are_added_without_touching_a_latent_or_decoding_a_frame(
    finished, several, world
):
    config, report = several
    assert latent_files(config) == latent_files(finished)
    assert report.encoded_now == 0
    assert report.layers_now == {
        "text/words": 0,
        **{f"text/{each.layer}": 5 for each in encoders(world)},  # 4 captions and the empty one
        "latent": 0,
    }
    cache = open_cache(config.url)
    assert cache.encoders == sorted(["words", *(each.layer for each in encoders(world))])
    lengths = set()
    for each in (WORDS, *encoders(world)):
        encoder = open_text_encoder(each)
        for sample in cache:
            (expected,) = encoder.encode([sample.caption])
            torch.testing.assert_close(sample.text[each.layer], expected, atol=1e-5, rtol=1e-4)
        (empty,) = encoder.encode([""])
        torch.testing.assert_close(cache.empty_text(each.layer), empty, atol=1e-5, rtol=1e-4)
        lengths |= {len(empty), len(cache[0].text[each.layer])}
    assert len(lengths) > 2, "captions are stored without padding"
    assert verify(config.url) == []


def test_other_captions_are_added_without_touching_a_latent_or_decoding_a_frame(
    copied, world, monkeypatch
):
    before = latent_files(copied)
    monkeypatch.setattr("video_platform.latents.fill.Stages", None)

    records = [
        dataclasses.replace(record, caption=f"again {number % 3}")
        for number, record in enumerate(clips_of(world))
    ]
    report = precompute(recipe_for(world, copied, text=WORDS), records, on_progress=quiet)
    assert latent_files(copied) == before
    assert report.layers_now == {"text/words": 3, "latent": 0}
    cache = open_cache(copied.url)
    assert {*cache.captions} == {"again 0", "again 1", "again 2"}
    (expected,) = open_text_encoder(WORDS).encode([cache[0].caption])
    assert torch.equal(cache[0].text["words"], expected)


def test_training_takes_the_encoder_that_the_model_names(several, world):
    texts, (config, _) = (WORDS, *encoders(world)), several
    source = LatentSource(recipe_for(world, config, text=texts, model=ModelSection(text="clip")))
    assert (source.text_encoder.name, source.text_encoder.dim) == ("clip", 16)
    _, parts = source.split(0.0, seed=0)
    batch = next(source.fixed_batches(parts, most=2)).data
    assert batch.text.embeddings.shape == (2, 16, 16)
    first = LatentSource(recipe_for(world, config, text=texts))
    assert first.text_encoder.name == "words"
    changed = dataclasses.replace(WORDS, seed=1)
    with pytest.raises(StaleCacheError, match=r"text\.words\.encoder\.seed is 0, not 1"):
        LatentSource(recipe_for(world, config, text=(changed, *texts[1:])))


def test_further_layers_are_added_without_touching_a_latent(copied, world):
    before = latent_files(copied)
    layers = {
        "codes": LayerConfig(kind="codes", path=str(world / "tokens")),
        "outline": LayerConfig(kind="control", method="edges", factor=2),
        "first": LayerConfig(kind="image", path=str(world / "vision"), output="pooled"),
        "last": LayerConfig(kind="image", path=str(world / "vision"), frame="last"),
        "shown": LayerConfig(kind="given", last=1),
    }
    report = run_precompute(world, copied, quiet, text=WORDS, layers=layers)
    assert latent_files(copied) == before
    assert report.layers_now == {
        "text/words": 0,
        "latent": 0,
        **{f"clip/{name}": CLIPS for name in layers},
    }
    tokens = open_autoencoder(world / "tokens", TokenAutoencoder)
    images = open_image_encoder(str(world / "vision"), "pooled")
    patches = open_image_encoder(str(world / "vision"))
    autoencoder = open_autoencoder(world / "autoencoder", Autoencoder)
    cache = open_cache(copied.url)
    assert cache.layers == sorted(layers)
    for sample in cache:
        frames = torch.from_numpy(frames_of(world, sample))
        video = frames[None].movedim(-1, 1).float() / 127.5 - 1
        with torch.no_grad():
            codes = tokens.tokenise(video)[0]
        held = sample.layers
        assert held["codes"]["codes"].dtype == torch.int32
        assert torch.equal(held["codes"]["codes"], codes.int())
        outline = control_map(frames.numpy(), METHODS["edges"], 2)
        assert torch.equal(held["outline"]["map"], torch.from_numpy(outline)[None])
        first = images.encode(frames[:1].movedim(-1, 1))[0]
        torch.testing.assert_close(held["first"]["embedding"], first, atol=1e-5, rtol=1e-4)
        last = patches.encode(frames[-1:].movedim(-1, 1))[0]
        torch.testing.assert_close(held["last"]["embedding"], last, atol=1e-5, rtol=1e-4)
        video[:, :, 1:-1] = 0  # a blank frame is grey between black and white
        with torch.no_grad():
            shown = autoencoder.encode(video).mode()[0]
        torch.testing.assert_close(held["shown"]["latents"], shown, atol=1e-5, rtol=1e-4)
    assert verify(copied.url) == []
    again = run_precompute(world, copied, quiet, text=WORDS, layers=layers)
    assert {*again.layers_now.values()} == {0}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (LayerConfig(kind="codes", path="autoencoder"), "needs a TokenAutoencoder"),
        (LayerConfig(kind="control", method="gray", factor=3), "does not divide clips of 5x16x16"),
        (LayerConfig(kind="image", path="tokens"), "no CLIP vision model"),
    ],
)
def test_a_layer_that_cannot_be_made_is_a_config_error(copied, world, layer, words):
    if layer.path:
        layer = dataclasses.replace(layer, path=str(world / layer.path))
    with pytest.raises(ConfigError, match=rf"layers\.extra: .*{words}"):
        run_precompute(world, copied, quiet, text=WORDS, layers={"extra": layer})


def test_latents_that_are_not_good_enough_stop_the_run_and_its_successors(
    ray_running, world, tmp_path
):
    config = config_for(str(tmp_path / "cache"))
    strict = FidelityConfig(share=1.0, min_psnr_db=60.0)
    reports = []

    def attempt(fidelity):
        recipe = recipe_for(world, config, text=WORDS, fidelity=fidelity)
        return precompute(
            recipe, clips_of(world), on_progress=quiet, on_fidelity=lambda g: reports.append(g)
        )

    with pytest.raises(CacheError, match=r"bucket 5x16x16 decodes to .* below .* = 60"):
        attempt(strict)
    assert reports[0].strips["5x16x16"]["first"].startswith(b"\x89PNG")
    with pytest.raises(CacheError, match="bucket 5x16x16"):
        attempt(strict)
    report = attempt(FidelityConfig(share=1.0))
    figures = report.fidelity["5x16x16"]
    assert figures["clips"] >= CLIPS and 5 < figures["min_psnr_db"] <= figures["psnr_db"] < 60
