"""What an autoencoder is trained for, in weights.

Importing this file needs no torch, so that recipes stay light.
"""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Weights of the terms; a weight of 0 leaves a term out."""

    mse: float = 1.0
    """Squared error, a mean over pixels and channels."""

    l1: float = 0.0
    """Absolute error, a mean over pixels and channels. On frames that are mostly background it
    settles on the background first."""

    gradient: float = 0.0
    """Squared error of the differences between neighbouring pixels, at three scales: sharp edges
    without a network that would have to be downloaded."""

    kl: float = 1e-6
    """KL divergence from a standard normal, in nats summed over a clip's latents and divided by
    its pixel values, so that the same weight suits clips of any size."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(
                    f"{field.name} is {getattr(self, field.name)!r}; it must not be negative"
                )
        if self.mse == self.l1 == self.gradient == 0:
            raise ValueError("mse, l1 and gradient are all 0; one of them must be positive")
