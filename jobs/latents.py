"""Batches of cached latents and captions, as training and distillation take them.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from jobs.recipe import Recipe, needed
from video_models.autoencoder.model import Autoencoder
from video_models.formats import fingerprint, open_autoencoder
from video_models.text.batch import TextBatch, pad_text
from video_models.text.encoder import open_text_encoder
from video_platform.batches.loader import Loader, MicroBatch, Place
from video_platform.batches.order import Order, bucket_by_shape
from video_platform.cluster import WorkerContext
from video_platform.errors import ConfigError, StaleCacheError
from video_platform.latents import Sample, check_matches, open_cache
from video_platform.latents.spec import differences
from video_platform.training.config import TrainingConfig
from video_platform.training.draws import generator

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


class LatentSource:
    """The cache of a recipe, checked against the autoencoder and the text encoder of the recipe.

    Attributes:
        cache: the newest snapshot.
        autoencoder: what made it, on the CPU.
        autoencoder_fingerprint: of its tensors.
        text_encoder: what embedded its captions.
        empty_text: the empty caption, a batch of one.

    Raises:
        StaleCacheError: the cache was made by something else.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.cache = open_cache(needed(recipe.cache, "cache", "training").url)
        try:
            self.autoencoder: Autoencoder = open_autoencoder(recipe.autoencoder_folder, Autoencoder)
            self.text_encoder = open_text_encoder(recipe.text)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.autoencoder_fingerprint = fingerprint(self.autoencoder)
        pixels = needed(recipe.pixels, "pixels", "training")
        check_matches(self.cache, self.autoencoder_fingerprint, pixels)
        self._name = self.text_encoder.name
        self._length = self.text_encoder.max_tokens
        self._loading = recipe.loader
        self._check_text()
        self.empty_text = pad_text([self.cache.empty_text(self._name)], self._length)

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.autoencoder.config.latent_channels

    def split(self, share: float, *, seed: int) -> tuple[list[int], list[int]]:
        """Split the clips into a held-out share and those to train on."""
        order = torch.randperm(len(self.cache), generator=generator(seed, "held-out")).tolist()
        count = int(share * len(order))
        return sorted(order[:count]), sorted(order[count:])

    def loader(
        self, chosen: Sequence[int], config: TrainingConfig, context: WorkerContext
    ) -> Loader[Sample, LatentBatch]:
        """Return this rank's loader over the chosen clips, by bucket."""
        shapes = self.cache.shapes
        buckets = bucket_by_shape([shapes[i] for i in chosen])
        return Loader(
            self.cache,
            Order(
                [[chosen[i] for i in bucket] for bucket in buckets],
                batch_size=config.batch_size,
                seed=config.seed,
            ),
            self.collate,
            place=Place(
                rank=context.rank, world=context.world, micro_batch_size=config.micro_batch_size
            ),
            config=self._loading,
        )

    def fixed_batches(self, chosen: Sequence[int]) -> Iterator[MicroBatch[LatentBatch]]:
        """Yield the chosen clips once, each bucket in order; a clip's position is its index."""
        shapes = self.cache.shapes
        for bucket in bucket_by_shape([shapes[i] for i in chosen]):
            indices = [chosen[i] for i in bucket]
            for start in range(0, len(indices), FIXED_BATCH):
                part = tuple(indices[start : start + FIXED_BATCH])
                data = self.collate([self.cache[i] for i in part])
                yield MicroBatch(data=data, indices=part, positions=part, share=1.0)

    def collate(self, samples: Sequence[Sample]) -> LatentBatch:
        """Lay samples of one shape side by side."""
        return LatentBatch(
            mean=torch.stack([sample.mean for sample in samples]),
            logvar=torch.stack([sample.logvar for sample in samples]),
            text=pad_text([sample.text[self._name] for sample in samples], self._length),
        )

    def latents(self, batch: MicroBatch[LatentBatch], seed: int) -> Tensor:
        """Draw normalised latents from the posteriors of a batch, by position; (B, C, T, H, W)."""
        mean, logvar = batch.data.mean, batch.data.logvar
        noise = [
            torch.randn(mean.shape[1:], generator=generator(seed, "posterior", position))
            for position in batch.positions
        ]
        return self.autoencoder.normalise(mean + torch.exp(0.5 * logvar) * torch.stack(noise))

    def _check_text(self) -> None:
        """Refuse captions that another encoder embedded."""
        made = self.cache.text_specs
        name = self._name
        if name in made:
            unlike = differences(made[name].identity["encoder"], self.text_encoder.identity)
            if unlike:
                raise StaleCacheError(
                    f"the captions in {self.cache.url} were embedded otherwise: "
                    f"{'; '.join(unlike)}; run `vdp precompute` with this recipe, or change text"
                )
        else:
            raise StaleCacheError(
                f"the cache {self.cache.url} holds no embeddings of {name!r}, only of "
                f"{', '.join(made) or 'none'}; run `vdp precompute` with this recipe, "
                "or change text"
            )
