"""What a model is given of the clips of a batch: which frames, drawn by position, and as what.

Models with condition channels get a mask and latents beside the noisy ones, from a layer of the
cache that was made of the given frames and zeros, exactly as published models make it. Models
without keep given latent frames clean: those are the first of the clip's own latents, since a
causal autoencoder makes them of the given frames alone. The mean of the posterior is taken for
both, as when a clip is generated.

Legend: B clips, P pixel frames, C latent channels, T H W latent frames, rows, columns, I image
tokens, D their width.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jobs.further_layers import image_identity
from jobs.given_maker import given_identity, shown_frames
from jobs.precompute_config import LayerConfig
from jobs.pretrain_config import GivenConfig, GivenFrames
from jobs.recipe import Recipe, needed
from video_models.autoencoder.model import Autoencoder
from video_models.image.clip import open_image_encoder
from video_models.transformer.given import Given
from video_models.transformer.given_frames import given_frames
from video_platform.errors import ConfigError, StaleCacheError
from video_platform.latents import Cache
from video_platform.latents.spec import LayerSpec, clip_spec, differences
from video_platform.training.draws import generator

EMBEDDING = "embedding"
"""The tensor of an `image` layer, (I, D)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """Frames that a clip is given."""

    first: int
    """How many at its beginning."""
    last: int
    """How many at its end."""
    layer: str | None
    """Where their latents are; None in the clip's own."""


NOTHING = Shown(first=0, last=0, layer=None)


def chosen_layers(recipe: Recipe) -> dict[str, LayerConfig]:
    """Return the layers that training reads, by name.

    Raises:
        ConfigError: the recipe has no such layer, or one of another kind.
    """
    given = recipe.pretrain.given if recipe.pretrain else None
    if given is None:
        return {}
    for name in given.layers:
        kind = "image" if name in given.image else "given"
        if name not in recipe.layers or recipe.layers[name].kind != kind:
            there = ", ".join(n for n, layer in recipe.layers.items() if layer.kind == kind)
            raise ConfigError(
                f"pretrain.given names {name!r} as a layer of kind {kind}; layers has "
                f"{there or 'none'} of that kind"
            )
    return {name: recipe.layers[name] for name in given.layers}


def expected_layers(
    recipe: Recipe, autoencoder: str, made: Mapping[str, LayerSpec]
) -> dict[str, LayerSpec]:
    """Return what the layers that training reads should be bound to.

    The weights of an image encoder are not opened for it: a layer is taken to have the right ones.

    Args:
        recipe: with `cache` and `pixels`.
        autoencoder: the fingerprint of its autoencoder.
        made: what the layers of a cache are bound to.
    """
    cache = needed(recipe.cache, "cache", "training")
    pixels = needed(recipe.pixels, "pixels", "training")
    expected = {}
    for name, layer in chosen_layers(recipe).items():
        if layer.kind == "given":
            identity = given_identity(layer, cache, autoencoder)
        else:
            there = made[name].identity.get("made_by", {}) if name in made else {}
            encoder = {**there.get("encoder", {}), "output": layer.output}
            identity = image_identity(layer, cache, encoder)
        identity = {"kind": layer.kind, **identity}
        expected[name] = clip_spec(name, identity=identity, policy=pixels)
    return expected


def check_alike(caches: Sequence[Cache], names: Collection[str]) -> None:
    """Refuse caches whose layers of one name were made by different things.

    Raises:
        StaleCacheError: with the name of the layer.
    """
    if not names:
        return
    first, *others = (cache.layer_specs for cache in caches)
    for cache, specs in zip(caches[1:], others, strict=True):
        for name in names:
            if unlike := differences(first[name].identity, dict(specs[name].identity)):
                raise StaleCacheError(
                    f"layer {name!r} of {cache.url} was made otherwise than that of "
                    f"{caches[0].url}: {'; '.join(unlike)}; make both with one recipe"
                )


def check_image_encoders(recipe: Recipe, identities: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse image encoders in a recipe that are not those that made its cache.

    Args:
        recipe: whose `layers` say where they are.
        identities: what made the image tokens, by layer.

    Raises:
        ConfigError: with the name of the layer.
    """
    for name, made in identities.items():
        layer = recipe.layers[name]
        try:
            found = open_image_encoder(str(layer.path), layer.output).identity
        except ValueError as error:
            raise ConfigError(f"layers.{name}: {error}") from None
        if unlike := differences(dict(made), found):
            raise ConfigError(
                f"layers.{name}: the cache was made by another image encoder; {'; '.join(unlike)}"
            )


class GivenSource:
    """Draws what clips are given, and lays it out for the model.

    Args:
        config: what may be given.
        layers: the layers that it names.
        autoencoder: whose latents they are.
    """

    def __init__(
        self, config: GivenConfig, layers: Mapping[str, LayerConfig], autoencoder: Autoencoder
    ) -> None:
        self.config, self._layers, self._autoencoder = config, layers, autoencoder
        self._factor = autoencoder.config.temporal_factor
        self.ways = [self._way(way) for way in config.ways]

    def __call__(
        self,
        mean: Tensor,
        layers: Mapping[str, Tensor],
        *,
        positions: Sequence[int],
        seed: int,
    ) -> Given:
        """Return what the clips at some positions of a run are given.

        Args:
            mean: of their latents, (B, C, T, H, W), not normalised.
            layers: what the layers hold of them, (B, ...) by name.
            positions: B of them.
            seed: of the run.
        """
        frames = 1 + self._factor * (mean.shape[2] - 1)
        shown = [self._draw(seed, position, frames) for position in positions]
        image = self._image(layers, shown)
        if not self.config.beside:
            known = torch.stack([self._known(each, mean.shape[2]) for each in shown])
            return Given(clean=self._autoencoder.normalise(mean), known=known, image=image)
        given = torch.stack([shown_frames(frames, each.first, each.last) for each in shown])
        latents = torch.zeros_like(mean)
        for row, each in enumerate(shown):
            if each.layer is not None:
                stored = layers[each.layer][row : row + 1]
                latents[row] = self._autoencoder.normalise(stored)[0]
        condition = given_frames(given, latents, temporal_factor=self._factor)
        return Given(condition=condition, image=image)

    def _way(self, way: GivenFrames) -> Shown:
        if way.layer is None:
            return Shown(first=way.first, last=0, layer=None)
        layer = self._layers[way.layer]
        return Shown(first=layer.first, last=layer.last, layer=way.layer)

    def _draw(self, seed: int, position: int, frames: int) -> Shown:
        """Draw what one clip is given; nothing where nothing would be left to make."""
        draw = float(torch.rand(1, generator=generator(seed, "given", position)))
        index = int(torch.tensor([way.chance for way in self.config.ways]).cumsum(0).le(draw).sum())
        if self.config.required:  # chances may add up to 1 but for rounding
            index = min(index, len(self.ways) - 1)
        if index == len(self.ways):
            return NOTHING
        shown = self.ways[index]
        return shown if shown.first + shown.last < frames else NOTHING

    def _known(self, shown: Shown, latent_frames: int) -> Tensor:
        """Return which latent frames are given, (T,) bool."""
        count = 0 if shown.first == 0 else 1 + (shown.first - 1) // self._factor
        return torch.arange(latent_frames) < count

    def _image(self, layers: Mapping[str, Tensor], shown: Sequence[Shown]) -> Tensor | None:
        """Return the image tokens of clips, (B, I, D), zeros for what they are not given."""
        parts = []
        for name in self.config.image:
            end = self._layers[name].frame
            given = torch.tensor([bool(getattr(each, end)) for each in shown])
            parts.append(layers[name] * given[:, None, None])
        return torch.cat(parts, dim=1) if parts else None
