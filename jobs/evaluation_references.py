"""Clips of a recipe's source that its autoencoder was not trained on."""

import contextlib

from jobs.evaluation_bench import Frames
from jobs.recipe import Recipe
from video_platform.datasets.clips import DecodedClips


def held_out_clips(recipe: Recipe, count: int) -> list[Frames]:
    """Decode clips of the recipe's source that its autoencoder was not trained on."""
    if recipe.source is None or recipe.pixels is None or not count:
        return []
    from jobs.launch import source_of
    from jobs.train_autoencoder import split

    records = source_of(recipe, "evaluate")
    chosen = list(range(len(records)))
    if recipe.autoencoder.training is not None:
        chosen, _ = split(len(records), seed=recipe.autoencoder.training.seed)
    with contextlib.closing(
        DecodedClips(records, policy=recipe.pixels, limits=recipe.limits)
    ) as clips:
        return [clips[index] for index in chosen[:count]]
