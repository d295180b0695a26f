"""The layers of a recipe's cache: what each is bound to, what makes it, and how it is filled.

latent                                   the autoencoder
text/<name>, one for each of `text`      the text encoders, keyed by caption
clip/<name>, one for each of `layers`    tokens, control maps, embeddings of images
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from jobs.fidelity import draw_bounds
from jobs.further_layers import ClipLayer, further_layer
from jobs.given_maker import placed
from jobs.latent_maker import LatentMaker, latent_layer, open_latent_maker
from jobs.recipe import Recipe, needed
from video_models.text.config import TextConfig
from video_models.text.encoder import open_text_encoder
from video_platform.cluster_folder import Folder, folder_here
from video_platform.datasets.record import Record
from video_platform.errors import ConfigError
from video_platform.latents.config import CacheConfig
from video_platform.latents.fill import Settings, fill_clips, fill_text
from video_platform.latents.making import OnFinding
from video_platform.latents.manifest import Plan
from video_platform.latents.spec import LayerSpec, text_spec
from video_platform.latents.work import OnProgress, Progress
from video_platform.latents.workers import EncodeText
from video_platform.storage import Store
from video_platform.video.policy import ClipSize


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentLayer:
    """The layer of latents."""

    spec: LayerSpec
    """What it is bound to."""
    folder: Folder
    """The autoencoder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextLayer:
    """A layer of captions that can be filled."""

    spec: LayerSpec
    """What it is bound to."""
    config: TextConfig
    """What makes it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheLayers:
    """All layers of a recipe's cache."""

    latent: LatentLayer
    """The latents."""
    text: Mapping[str, TextLayer]
    """The captions' embeddings, by encoder."""
    further: Mapping[str, ClipLayer]
    """What else is kept of a clip, by name."""

    def plan(self, source: str, cache: CacheConfig) -> Plan:
        """Return what a snapshot joins of a stored source."""
        return Plan(
            source=source,
            latent=self.latent.spec.folder,
            text={name: layer.spec.folder for name, layer in self.text.items()},
            clip={name: layer.spec.folder for name, layer in self.further.items()},
            unit_size=cache.unit_size,
            text_unit_size=cache.text_unit_size,
        )


def layers_of(recipe: Recipe, sizes: Sequence[ClipSize]) -> CacheLayers:
    """Open everything that a recipe's cache is made by, and say what each layer is bound to.

    Args:
        recipe: with `cache` and `pixels`.
        sizes: the sizes of the clips.

    Raises:
        ConfigError: something is not where the recipe says, or takes no clips of such a size.
    """
    settings = settings_of(recipe)
    cache = settings.cache
    folder = str(recipe.autoencoder_folder.absolute())
    return CacheLayers(
        latent=LatentLayer(
            spec=latent_layer(folder, settings.policy, sizes, cache), folder=folder_here(folder)
        ),
        text={name: _text_layer(name, config, cache) for name, config in recipe.texts.items()},
        further={
            name: further_layer(name, placed(config, folder), settings, sizes)
            for name, config in recipe.layers.items()
        },
    )


def fill(
    root: Store,
    layers: CacheLayers,
    records: Sequence[Record],
    recipe: Recipe,
    *,
    on_progress: OnProgress,
    on_finding: OnFinding,
) -> dict[str, Progress]:
    """Make what is missing of every layer, on the Ray that is running.

    Args:
        root: the cache.
        layers: what is to be filled.
        records: the source.
        recipe: pools, batches and limits.
        on_progress: is told of each layer, from its start to its end.
        on_finding: is told what was found out about the latents of sampled clips.

    Returns:
        how far each layer came, by its name.
    """
    settings = settings_of(recipe)
    cache = settings.cache
    done = {}
    for text in layers.text.values():
        done[text.spec.layer] = fill_text(
            root,
            text.spec,
            records,
            config=cache,
            open_encode=functools.partial(
                _open_text, text.config, folder_here(text.config.path), cache
            ),
            on_progress=on_progress,
        )
    bounds = draw_bounds(records, recipe.fidelity)
    open_latents = functools.partial(_open_latents, layers.latent.folder, cache, bounds)
    latent = ClipLayer(spec=layers.latent.spec, open_make=open_latents)
    for layer in (latent, *layers.further.values()):
        done[layer.spec.layer] = fill_clips(
            root,
            layer.spec,
            records,
            settings=settings,
            open_make=layer.open_make,
            on_progress=on_progress,
            on_finding=on_finding,
        )
    return done


def settings_of(recipe: Recipe) -> Settings:
    """Return how a recipe's clips are decoded and encoded."""
    return Settings(
        cache=needed(recipe.cache, "cache", "precompute"),
        policy=needed(recipe.pixels, "pixels", "precompute"),
        limits=recipe.limits,
    )


def _text_layer(name: str, config: TextConfig, cache: CacheConfig) -> TextLayer:
    """Describe what a text encoder makes of captions."""
    try:
        encoder = open_text_encoder(config)
    except ValueError as error:
        raise ConfigError(f"text {name!r}: {error}") from None
    spec = text_spec(name, identity=encoder.identity, stored=cache.stored)
    return TextLayer(spec=spec, config=config)


def _open_latents(folder: Folder, cache: CacheConfig, bounds: Mapping[str, int]) -> LatentMaker:
    """Open the autoencoder on whatever machine this is."""
    with folder.opened() as path:
        return open_latent_maker(str(path), cache, bounds)


def _open_text(config: TextConfig, folder: Folder, cache: CacheConfig) -> EncodeText:
    """Open a text encoder on whatever machine, as a function from captions to embeddings."""
    device = "cuda" if cache.gpus_per_encoder else "cpu"
    with folder.opened() as path:
        return open_text_encoder(dataclasses.replace(config, path=path), device).encode
