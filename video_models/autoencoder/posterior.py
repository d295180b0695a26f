"""What the encoder says about a clip: an independent normal law for each latent number.

Legend: B batch, C channels, T frames, H W positions.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOGVAR_RANGE = (-30.0, 20.0)
"""Bounds of the log-variance, so that its exponential stays finite."""


@dataclass(frozen=True)
class Posterior:
    """Mean and log-variance of latents, not normalised, both (B, C, T, H, W)."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> "Posterior":
        """Split (B, 2 C, T, H, W) and bound the log-variance."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(*LOGVAR_RANGE))

    def mode(self) -> Tensor:
        """Return the most likely latents."""
        return self.mean

    def at(self, noise: Tensor) -> Tensor:
        """Return the latents that standard normal noise stands for."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents; the noise is drawn on the CPU, so a seed means the same on any device."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=torch.float32)
        return self.at(noise.to(self.mean))

    def kl(self) -> Tensor:
        """Return KL(posterior | standard normal) in nats, summed over a clip's latents, (B,)."""
        terms = self.mean.square() + self.logvar.exp() - 1 - self.logvar
        return 0.5 * terms.flatten(1).sum(dim=1)

    def penalties(self) -> dict[str, Tensor]:
        """Return what training may charge for the code of a clip, by name; (B,) each."""
        return {"kl": self.kl()}

    def bits(self) -> Tensor:
        """Return how many bits the code of a clip takes, (B,)."""
        return self.kl() / math.log(2)
