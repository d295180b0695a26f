"""Batches of cached latents and captions, as training and distillation take them.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from jobs.given import EMBEDDING, GivenSource, check_alike, chosen_layers, expected_layers
from jobs.latent_order import Part, Size, latent_order, size_of
from jobs.recipe import Recipe, needed
from video_models.autoencoder.model import Autoencoder
from video_models.formats import fingerprint, open_autoencoder
from video_models.text.batch import TextBatch, join, pad_text, together
from video_models.text.encoder import open_text_encoder
from video_models.text.protocol import TextEncoder
from video_models.transformer.given import Given
from video_platform.batches.config import CacheShare
from video_platform.batches.dataset import Joined
from video_platform.batches.loader import Loader, MicroBatch, Place
from video_platform.batches.places import portions, split, take
from video_platform.cluster import WorkerContext
from video_platform.errors import ConfigError
from video_platform.latents import Cache, Sample, check_matches, open_cache
from video_platform.latents.disk import DiskCache
from video_platform.latents.spec import latent_spec, text_spec
from video_platform.training.config import TrainingConfig
from video_platform.training.draws import generator
from video_platform.training.sequence_parallel import data_place

FIXED_BATCH = 32
"""Clips in a batch of a fixed set."""


@dataclasses.dataclass(frozen=True)
class LatentBatch:
    """Posteriors and captions of one shape."""

    mean: Tensor
    """(B, C, T, H, W), not normalised."""
    logvar: Tensor
    """(B, C, T, H, W)."""
    text: TextBatch
    """The captions."""
    layers: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    """What further layers hold of the clips, (B, ...), by name; only those that are asked for."""


@dataclasses.dataclass(frozen=True)
class PackedLatents:
    """Clips of different shapes, for one sequence."""

    clips: tuple[LatentBatch, ...]
    """Each by itself."""
    text: TextBatch
    """The captions of all."""


AnyLatents = LatentBatch | PackedLatents


def parts_of(batch: MicroBatch[AnyLatents]) -> list[MicroBatch[LatentBatch]]:
    """Return what has one shape: the micro-batch itself, or each clip of a packed one."""
    if isinstance(batch.data, LatentBatch):
        return [cast(MicroBatch[LatentBatch], batch)]
    clips = zip(batch.data.clips, batch.indices, batch.positions, strict=True)
    share = batch.share / len(batch.positions)
    return [
        MicroBatch(data=clip, indices=(index,), positions=(position,), share=share)
        for clip, index, position in clips
    ]


class LatentSource:
    """The caches of a recipe, checked against the autoencoder and the text encoder of the recipe.

    Attributes:
        caches: a snapshot of each, the newest unless the recipe names one.
        shares: the caches as a recipe gives them, with the snapshots that were opened.
        autoencoder: what made them, on the CPU.
        autoencoder_fingerprint: of its tensors.
        text_encoders: what embedded their captions, in the order of the model's.
        empty_text: the empty caption, a batch of one.
        given: what the model is given of clips; None for text alone.

    Raises:
        StaleCacheError: a cache was made by something else.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._loading = loading = recipe.loader
        self._image_share = recipe.image_share
        disk = DiskCache(loading.disk, loading.disk_bytes) if loading.disk else None
        shares = recipe.mix or (CacheShare(url=needed(recipe.cache, "cache", "training").url),)
        self.caches = [open_cache(s.url, snapshot=s.snapshot, disk=disk) for s in shares]
        self.shares = tuple(
            dataclasses.replace(share, snapshot=cache.snapshot)
            for share, cache in zip(shares, self.caches, strict=True)
        )
        try:
            self.autoencoder: Autoencoder = open_autoencoder(recipe.autoencoder_folder, Autoencoder)
            self.text_encoders = [open_text_encoder(each) for each in recipe.model_texts]
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.autoencoder_fingerprint = fingerprint(self.autoencoder)
        for cache in self.caches:
            self._check(cache, recipe)
        self._clips: Joined[Sample] = Joined(self.caches)
        first = self.caches[0]
        self.empty_text = self._text(
            [{e.name: first.empty_text(e.name) for e in self.text_encoders}]
        )
        self._layers = chosen_layers(recipe)
        check_alike(self.caches, self._layers)
        given = recipe.pretrain.given if recipe.pretrain else None
        self.given = GivenSource(given, self._layers, self.autoencoder) if given else None

    @property
    def text_encoder(self) -> TextEncoder:
        """The first of the text encoders."""
        return self.text_encoders[0]

    @property
    def image_tokens(self) -> tuple[int, int] | None:
        """How many image tokens a clip has, and how wide they are; None without images."""
        if self.given is None or not self.given.config.image:
            return None
        held = self._clips[0].layers
        shapes = [held[name][EMBEDDING].shape for name in self.given.config.image]
        return sum(shape[0] for shape in shapes), shapes[0][1]

    @property
    def image_identities(self) -> dict[str, Mapping[str, Any]]:
        """What made the image tokens, by layer."""
        names = self.given.config.image if self.given else ()
        specs = self.caches[0].layer_specs if names else {}
        return {name: specs[name].identity["made_by"]["encoder"] for name in names}

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.autoencoder.config.latent_channels

    @property
    def text_dims(self) -> tuple[int, ...]:
        """Widths of the embeddings, of each text encoder."""
        return tuple(encoder.dim for encoder in self.text_encoders)

    @property
    def condition_channels(self) -> int:
        """Channels of the mask and the latents of given frames."""
        return self.autoencoder.config.temporal_factor + self.channels

    @property
    def snapshots(self) -> dict[str, str]:
        """Root hashes of the snapshots, by role: `cache`, `cache-2`, ..."""
        names = ["cache", *(f"cache-{number}" for number in range(2, len(self.caches) + 1))]
        return {n: cache.snapshot_id for n, cache in zip(names, self.caches, strict=True)}

    def pinned(self, recipe: Recipe) -> Recipe:
        """Return a recipe that opens these snapshots, whatever is frozen in the meantime."""
        return dataclasses.replace(recipe, mix=self.shares)

    def split(self, share: float, *, seed: int) -> tuple[list[Part], list[Part]]:
        """Split the clips into a held-out share and those to train on, shape by shape."""
        parts = [
            Part(number, size_of(bucket.shape), _moved(bucket.places, start))
            for number, (cache, start) in enumerate(zip(self.caches, self._starts(), strict=True))
            for bucket in cache.buckets
        ]
        sizes = [len(part.places) for part in parts]
        held_out, trained = [], []
        for number, count in enumerate(portions(sizes, int(share * sum(sizes)))):
            part = parts[number]
            drawn, rest = split(part.places, count, seed, "held-out", number)
            held_out.append(dataclasses.replace(part, places=drawn))
            trained.append(dataclasses.replace(part, places=rest))
        return held_out, trained

    def loader(
        self,
        chosen: Sequence[Part],
        config: TrainingConfig,
        context: WorkerContext,
        *,
        work: Callable[[Size], float] | None = None,
        packs: bool = False,
    ) -> Loader[Sample, AnyLatents]:
        """Return this rank's loader over the chosen clips.

        Args:
            chosen: the clips.
            config: how many make up a step.
            context: this rank.
            work: see `latent_order`.
            packs: whether the step takes `PackedLatents`.

        Raises:
            ConfigError: `config.pack` is asked of a step that does not, or see `latent_order`.
        """
        if config.pack and not packs:
            raise ConfigError(
                "training.pack: this job takes micro-batches of one shape; set pack to false"
            )
        content = {
            role: {"snapshot": cache.snapshot, "id": cache.snapshot_id}
            for role, cache in zip(self.snapshots, self.caches, strict=True)
        }
        return Loader(
            self._clips,
            latent_order(
                chosen,
                weights=[share.weight for share in self.shares],
                config=config,
                image_share=self._image_share,
                work=work,
            ),
            self.pack if config.pack else self.collate,
            place=data_place(context.rank, context.world, config.sequence_parallel),
            config=self._loading,
            pack_tokens=config.micro_batch_tokens if config.pack else None,
            content=content,
        )

    def fixed_batches(
        self, chosen: Sequence[Part], *, most: int, place: Place | None = None
    ) -> Iterator[MicroBatch[LatentBatch]]:
        """Yield up to `most` of the chosen clips once; a clip's position is its index.

        Args:
            chosen: the clips.
            most: over all ranks.
            place: the rank whose part is wanted; None is alone. All ranks get equally many batches,
                those of share 0 being another's, to keep it company.
        """
        rank, world = (place.rank, place.world) if place else (0, 1)
        for indices in self.fixed_clips(chosen, most=most):
            for start in range(0, len(indices), FIXED_BATCH * world):
                together = indices[start : start + FIXED_BATCH * world]
                mine = tuple(together[rank::world])
                shown = mine or tuple(together[:1])
                data = self.collate([self._clips[index] for index in shown])
                share = float(bool(mine))
                yield MicroBatch(data=data, indices=shown, positions=shown, share=share)

    def fixed_clips(self, chosen: Sequence[Part], *, most: int) -> list[list[int]]:
        """Return up to `most` of the chosen clips, by shape."""
        sizes = [len(part.places) for part in chosen]
        counts = portions(sizes, min(most, sum(sizes)))
        return [
            take(part.places, np.arange(count)).tolist()
            for part, count in zip(chosen, counts, strict=True)
        ]

    def clip(self, index: int) -> MicroBatch[LatentBatch]:
        """Return one clip by itself; its position is its index."""
        data = self.collate([self._clips[index]])
        return MicroBatch(data=data, indices=(index,), positions=(index,), share=1.0)

    def caption(self, index: int) -> str:
        """Return the caption of a clip."""
        return self._clips[index].caption

    def pixels_of(self, latents: Tensor) -> tuple[int, int, int]:
        """Return frames, height and width of the clips of latents (B, C, T, H, W)."""
        config = self.autoencoder.config
        T, H, W = latents.shape[2:]
        side = config.spatial_factor
        return 1 + config.temporal_factor * (T - 1), side * H, side * W

    def collate(self, samples: Sequence[Sample]) -> LatentBatch:
        """Lay samples of one shape side by side."""
        return LatentBatch(
            mean=torch.stack([sample.mean for sample in samples]),
            logvar=torch.stack([sample.logvar for sample in samples]),
            text=self._text([sample.text for sample in samples]),
            layers={
                name: torch.stack([only(sample.layers[name]) for sample in samples])
                for name in self._layers
            },
        )

    def pack(self, samples: Sequence[Sample]) -> AnyLatents:
        """Lay samples of any shapes one behind the other; of one shape side by side."""
        if len({sample.mean.shape for sample in samples}) == 1:
            return self.collate(samples)
        clips = tuple(self.collate([sample]) for sample in samples)
        return PackedLatents(clips, join(*(clip.text for clip in clips)))

    def latents(self, batch: MicroBatch[LatentBatch], seed: int) -> Tensor:
        """Draw normalised latents from the posteriors of a batch, by position; (B, C, T, H, W)."""
        mean, logvar = batch.data.mean, batch.data.logvar
        noise = [
            torch.randn(mean.shape[1:], generator=generator(seed, "posterior", position))
            for position in batch.positions
        ]
        return self.autoencoder.normalise(mean + torch.exp(0.5 * logvar) * torch.stack(noise))

    def given_of(self, batch: MicroBatch[LatentBatch], seed: int) -> Given:
        """Return what the model is given of the clips of a batch, drawn by position."""
        if self.given is None:
            return Given()
        data = batch.data
        return self.given(data.mean, data.layers, positions=batch.positions, seed=seed)

    def _text(self, captions: Sequence[Mapping[str, Tensor]]) -> TextBatch:
        """Return captions as all encoders read them, from the embeddings by encoder of each."""
        return together(
            [
                pad_text([caption[each.name] for caption in captions], each.max_tokens)
                for each in self.text_encoders
            ]
        )

    def _starts(self) -> list[int]:
        """Return where each cache begins in all of them joined."""
        return [0, *itertools.accumulate(len(cache) for cache in self.caches[:-1])]

    def _check(self, cache: Cache, recipe: Recipe) -> None:
        """Refuse a cache that this recipe would make otherwise."""
        config = needed(recipe.cache, "cache", "training")
        pixels = needed(recipe.pixels, "pixels", "training")
        made = cache.layer_specs if chosen_layers(recipe) else {}
        check_matches(
            cache,
            latent_spec(
                autoencoder_fingerprint=self.autoencoder_fingerprint,
                policy=pixels,
                config=config,
                information={},
            ),
            sizes=recipe.clips.sizes(pixels) if recipe.clips else [pixels.size],
            text={
                each.name: text_spec(each.name, identity=each.identity, stored=config.stored)
                for each in self.text_encoders
            },
            layers=expected_layers(recipe, self.autoencoder_fingerprint, made),
        )


def only(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the only tensor of a layer."""
    (tensor,) = tensors.values()
    return tensor


def _moved(places: range, start: int) -> range:
    return range(places.start + start, places.stop + start)
