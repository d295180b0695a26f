"""The Fréchet distance of clips, by a network that the recipe names a folder of.

The network is a CLIP vision model, its features the pooled embeddings of all frames; that is no FID
and no FVD, and the name of the number says what it is: of what, by what, from how many clips of
which size. Only distances of equal names can be compared.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from jobs.evaluation_config import EvaluationConfig
from pipelines.pixels import to_frames
from video_models.image.clip import open_image_encoder
from video_models.metrics.frechet import Gaussian, frechet_distance
from video_platform.errors import ConfigError

FRAMES = 64
"""Frames whose features are taken at once."""

FEATURES_OF = "frames by CLIP"
"""What each row of the features is of, as the measure's name says it."""

Features = Callable[[Tensor], Tensor]
"""Features (N, F) of videos (B, 3, T, H, W) in [-1, 1]."""


def open_features(config: EvaluationConfig) -> Features | None:
    """Return the features of `evaluate.feature_network`; None where there is none.

    Raises:
        ConfigError: the folder holds no such network.
    """
    if not config.feature_network:
        return None
    try:
        encoder = open_image_encoder(config.feature_network, "pooled")
    except ValueError as error:
        raise ConfigError(f"evaluate.feature_network: {error}") from None

    def features(video: Tensor) -> Tensor:
        frames = torch.from_numpy(to_frames(video)).flatten(0, 1).movedim(-1, 1)
        return torch.cat([encoder.encode(part)[:, 0] for part in torch.split(frames, FRAMES)])

    return features


@dataclass
class Cloud:
    """Features of clips that come in batches; only their mean and covariance are kept."""

    features: Features
    """The network."""
    clips: int = 0
    """Clips so far."""
    size: tuple[int, int] = (0, 0)
    """Height and width of the clips, of the last batch."""
    _count: int = 0
    _mean: Tensor = field(default_factory=lambda: torch.zeros(()))
    _scatter: Tensor = field(default_factory=lambda: torch.zeros(()))

    @torch.inference_mode()
    def add(self, video: Tensor) -> None:
        """Add clips (B, 3, T, H, W) in [-1, 1]."""
        x = self.features(video).double().cpu()
        count, mean = len(x), x.mean(0)
        scatter = (x - mean).T @ (x - mean)
        total = self._count + count
        step = mean - self._mean
        # Chan, Golub and LeVeque 1983: two clouds' moments joined without their points.
        self._scatter = (
            self._scatter + scatter + torch.outer(step, step) * (self._count * count / total)
            if self._count
            else scatter
        )
        self._mean = self._mean + step * (count / total) if self._count else mean
        self._count, self.clips = total, self.clips + len(video)
        self.size = (video.shape[-2], video.shape[-1])

    @property
    def gaussian(self) -> Gaussian:
        """The normal law of the features so far.

        Raises:
            ValueError: there are fewer than two samples.
        """
        if self._count < 2:
            raise ValueError(f"a cloud of {self._count} samples has no covariance; give at least 2")
        return Gaussian(self._mean, self._scatter / (self._count - 1))


def distance_of(cloud: Cloud, reference: Cloud, *, of: str = FEATURES_OF) -> tuple[str, float]:
    """Return the Fréchet distance between two clouds under a name that says what it is.

    Raises:
        ValueError: a cloud has fewer than two samples.
    """
    height, width = cloud.size
    count = f"{cloud.clips} clips of {width} x {height}"
    if (reference.clips, reference.size) != (cloud.clips, cloud.size):
        height, width = reference.size
        count += f" against {reference.clips} of {width} x {height}"
    name = f"fréchet distance of {of}, {count}"
    return name, frechet_distance(cloud.gaussian, reference.gaussian)
