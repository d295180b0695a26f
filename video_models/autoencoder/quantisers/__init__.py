"""Codebooks between encoder and decoder: latents in, codes and their indices out."""

from collections.abc import Callable

from video_models.autoencoder.quantiser_config import QuantiserConfig
from video_models.autoencoder.quantisers.code import Quantised, Quantiser, Reduce, alone
from video_models.autoencoder.quantisers.fsq import FiniteScalarQuantiser
from video_models.autoencoder.quantisers.lfq import LookupFreeQuantiser
from video_models.autoencoder.quantisers.vq import VectorQuantiser
from video_models.pick import pick

__all__ = ["Quantised", "Quantiser", "Reduce", "alone", "open_quantiser"]


def open_quantiser(config: QuantiserConfig, latent_channels: int) -> Quantiser:
    """Build the quantiser that a config describes, behind a backbone of that many channels."""
    kinds: dict[str, Callable[[], Quantiser]] = {
        "fsq": lambda: FiniteScalarQuantiser(config),
        "lfq": lambda: LookupFreeQuantiser(config),
        "vq": lambda: VectorQuantiser(config, config.dim(latent_channels)),
    }
    return pick(kinds, config.kind, "kind of quantiser")()
