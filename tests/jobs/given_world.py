"""A cache of the synthetic world with what image to video is given, made in a moment without Ray.

Everything but the road from files is real: frames, makers of the layers, shards, snapshot.
"""

import functools

import numpy as np
import torch

from jobs.cache_layers import layers_of
from jobs.latent_maker import open_latent_maker
from jobs.recipe import Recipe
from tests.tiny import make_autoencoder
from tests.video_models.image.test_clip import make_vision_folder
from video_models.formats import save_autoencoder
from video_models.text.encoder import open_text_encoder
from video_platform.config import load_recipe
from video_platform.datasets.record import Record
from video_platform.latents import snapshot
from video_platform.latents.layer import Encoded, open_layer
from video_platform.latents.manifest import (
    captions,
    latent_units,
    save_manifest,
    text_units,
)
from video_platform.shapes.captions import clip_at
from video_platform.shapes.render import render
from video_platform.shapes.world import WorldConfig
from video_platform.storage import open_store
from video_platform.video.policy import ClipSize

RECIPE = """
name: tiny
project: {folder}
pixels: {{frames: 5, height: 16, width: 16, fps: 8.0}}
text:
  - {{kind: words, dim: 16, max_tokens: 8}}
  - {{kind: words, name: wide, dim: 24, max_tokens: 6}}
  - {{kind: words, name: whole, dim: 12, max_tokens: 1}}
layers:
  first: {{kind: given}}
  ends: {{kind: given, last: 1}}
  begin: {{kind: image, path: {folder}/vision}}
  end: {{kind: image, path: {folder}/vision, frame: last}}
cache: {{url: {folder}/cache, unit_size: 16, stored: float32}}
loader: {{prefetch_steps: 0}}
autoencoder: {{path: {folder}/vae}}
model:
  sampling: {{steps: 4, guidance: 1.0}}
cluster: {{workers: 2}}
"""
WORLD = WorldConfig(num_clips=64, size=16, frames=5)


@functools.cache
def frames_at(number):
    """Return the frames of a clip, (T, H, W, 3)."""
    return render(clip_at(WORLD, number)[0])


def make_given_world(folder, count):
    """Write recipe, autoencoder, image encoder and cache to a folder; return the recipe."""
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder))
    model, frames = make_autoencoder(), np.stack([frames_at(n) for n in range(count)])
    with torch.no_grad():
        video = torch.from_numpy(frames).movedim(-1, 1).float() / 127.5 - 1
        mean = model.encode(video).mean
    model.set_normalisation(
        mean.mean(dim=(0, 2, 3, 4)).tolist(), mean.std(dim=(0, 2, 3, 4)).tolist()
    )
    save_autoencoder(model, folder / "vae")
    make_vision_folder(folder / "vision")
    recipe = load_recipe(Recipe, folder / "recipe.yaml")
    fill(recipe, [record(number) for number in range(count)])
    return recipe


def record(number):
    name, size = f"{number:03d}", ClipSize(5, 16, 16)
    return Record(
        id=name, url="", key=name, size_bytes=1, identity=name,
        caption=clip_at(WORLD, number)[1], size=size,
    )  # fmt: skip


def fill(recipe, records):
    """Commit every layer of a recipe's cache, and snapshot it."""
    root, cache = open_store(recipe.cache.url), recipe.cache
    layers = layers_of(recipe, [recipe.pixels.size])
    layers.plan(save_manifest(root, records), cache).save(root)
    makers = [(layers.latent.spec, open_latent_maker(str(recipe.autoencoder_folder), cache, {}))]
    makers += [(layer.spec, layer.open_make()) for layer in layers.further.values()]
    for spec, make in makers:
        for unit in latent_units(records, cache.unit_size):
            frames = np.stack([frames_at(int(member.id)) for member in unit.members])
            made = [each.tensors for each in make(frames, records[: len(frames)])]
            if spec is layers.latent.spec:  # as sure of itself as a trained autoencoder is
                made = [{**each, "logvar": torch.full_like(each["mean"], -12.0)} for each in made]
            commit(root, spec, unit, made)
    spoken = captions(records)
    for name, layer in layers.text.items():
        encoder = open_text_encoder(recipe.texts[name])
        for unit in text_units(records, cache.text_unit_size):
            made = encoder.encode([spoken[member.id] for member in unit.members])
            commit(root, layer.spec, unit, [{"embedding": each} for each in made])
    return snapshot(cache.url)


def commit(root, spec, unit, made):
    """Commit what was made of a unit."""
    encoded = []
    for member, tensors in zip(unit.members, made, strict=True):
        shape = next(iter(tensors.values())).shape
        bucket = "x".join(map(str, shape))
        encoded.append(Encoded(member=member, tensors=dict(tensors), bucket=bucket))
    open_layer(root, spec).write(unit, encoded)
