"""Batches of cached latents and captions, as training and distillation take them.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from jobs.latent_order import Part, Size, latent_order, size_of
from jobs.recipe import Recipe, needed
from video_models.autoencoder.model import Autoencoder
from video_models.formats import fingerprint, open_autoencoder
from video_models.text.batch import TextBatch, join, pad_text
from video_models.text.encoder import open_text_encoder
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
        text_encoder: what embedded their captions.
        empty_text: the empty caption, a batch of one.

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
            self.text_encoder = open_text_encoder(recipe.model_text)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.autoencoder_fingerprint = fingerprint(self.autoencoder)
        for cache in self.caches:
            self._check(cache, recipe)
        self._name = self.text_encoder.name
        self._length = self.text_encoder.max_tokens
        self._clips: Joined[Sample] = Joined(self.caches)
        self.empty_text = pad_text([self.caches[0].empty_text(self._name)], self._length)

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.autoencoder.config.latent_channels

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
        sizes = [len(part.places) for part in chosen]
        for part, count in zip(chosen, portions(sizes, min(most, sum(sizes))), strict=True):
            indices = take(part.places, np.arange(count)).tolist()
            for start in range(0, count, FIXED_BATCH * world):
                together = indices[start : start + FIXED_BATCH * world]
                mine = tuple(together[rank::world])
                shown = mine or tuple(together[:1])
                data = self.collate([self._clips[index] for index in shown])
                share = float(bool(mine))
                yield MicroBatch(data=data, indices=shown, positions=shown, share=share)

    def collate(self, samples: Sequence[Sample]) -> LatentBatch:
        """Lay samples of one shape side by side."""
        return LatentBatch(
            mean=torch.stack([sample.mean for sample in samples]),
            logvar=torch.stack([sample.logvar for sample in samples]),
            text=pad_text([sample.text[self._name] for sample in samples], self._length),
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

    def _starts(self) -> list[int]:
        """Return where each cache begins in all of them joined."""
        return [0, *itertools.accumulate(len(cache) for cache in self.caches[:-1])]

    def _check(self, cache: Cache, recipe: Recipe) -> None:
        """Refuse a cache that this recipe would make otherwise."""
        config = needed(recipe.cache, "cache", "training")
        pixels = needed(recipe.pixels, "pixels", "training")
        name, identity = self.text_encoder.name, self.text_encoder.identity
        check_matches(
            cache,
            latent_spec(
                autoencoder_fingerprint=self.autoencoder_fingerprint,
                policy=pixels,
                config=config,
                information={},
            ),
            sizes=recipe.clips.sizes(pixels) if recipe.clips else [pixels.size],
            text={name: text_spec(name, identity=identity, stored=config.stored)},
        )


def _moved(places: range, start: int) -> range:
    return range(places.start + start, places.stop + start)
