"""What an autoencoder is trained for, in weights.

Importing this file needs no torch, so that recipes stay light.
"""

from dataclasses import dataclass, fields

from video_models.autoencoder.discriminator_config import DiscriminatorConfig

RECONSTRUCTION = ("mse", "l1", "gradient", "laplacian", "wavelet", "lpips")
"""Terms that compare a reconstruction with its video; one of them must have a weight."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """Weights of the terms; a weight of 0 leaves a term out.

    The weight of a penalty of the code (`kl`, `commitment`, `entropy`, `outlier`) goes unused where
    the code has no such penalty: one config suits the continuous and the quantised autoencoders.
    The first three are summed over a clip's latents and divided by its pixel values, so that the
    same weight suits clips of any size.
    """

    mse: float = 1.0
    """Squared error, a mean over pixels and channels."""

    l1: float = 0.0
    """Absolute error, a mean over pixels and channels. On frames that are mostly background it
    settles on the background first."""

    gradient: float = 0.0
    """Squared error of the differences between neighbouring pixels, at three scales: sharp edges
    without a network that would have to be downloaded."""

    laplacian: float = 0.0
    """Absolute error in the bands of a Laplacian pyramid of each frame: texture and edges at every
    scale, the substitute for `lpips` where its weights cannot be had."""

    wavelet: float = 0.0
    """Absolute error over the eight bands of a 3-D Haar transform: sharpness in motion too."""

    lpips: float = 0.0
    """Learned perceptual distance (VGG16), a mean over frames; needs `lpips_weights`."""

    lpips_weights: tuple[str, ...] = ()
    """Local files with the weights of LPIPS, safetensors or tensors only: one with all, or
    torchvision's VGG16 and the authors' heads."""

    kl: float = 1e-6
    """KL divergence from a standard normal, in nats. Continuous codes only."""

    commitment: float = 0.25
    """Squared distance of the latents from their codes. Quantised codes only; FSQ has none."""

    entropy: float = 0.1
    """Entropy of each latent's choice of code, less that of all choices together, in nats. LFQ
    only."""

    outlier: float = 0.0
    """How far latents stick out of their frame beyond three standard deviations, a mean over
    positions; Movie Gen's weight is 1e5. Continuous codes only."""

    def __post_init__(self) -> None:
        weights = [field.name for field in fields(self) if field.name != "lpips_weights"]
        for name in weights:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must not be negative")
        if not any(getattr(self, name) for name in RECONSTRUCTION):
            names = f"{', '.join(RECONSTRUCTION[:-1])} and {RECONSTRUCTION[-1]}"
            raise ValueError(f"{names} are all 0; one of them must be positive")
        if self.lpips and not self.lpips_weights:
            raise ValueError(
                f"lpips is {self.lpips!r} and lpips_weights names no file; name local files with "
                "the weights, or set lpips to 0 and use laplacian and gradient"
            )


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """A discriminator that the autoencoder must convince, and how the two play.

    The discriminator is trained like the autoencoder but for what is named here.
    """

    weight: float = 0.5
    """Weight of the autoencoder's side of the game, before the adaptive weight."""

    adaptive: bool = True
    """Also weigh it by the ratio of the gradients that reconstruction and game leave at the
    decoder's last kernel, so that both pull equally hard."""

    max_adaptive: float = 1e4
    """Largest adaptive weight."""

    start_step: int = 0
    """Step at which the game begins; before it neither side of it is computed."""

    r1: float = 0.0
    """Weight gamma of the discriminator's squared gradient at real videos (R1), which calms the
    game; 0 leaves it out."""

    r1_every: int = 16
    """Steps between two uses of R1, which then counts that many times."""

    learning_rate: float | None = None
    """The discriminator's peak learning rate; None for the autoencoder's."""

    betas: tuple[float, float] = (0.5, 0.9)
    """Decay of the discriminator's first and second moment in AdamW."""

    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    """Its size."""

    def __post_init__(self) -> None:
        for name in ("weight", "max_adaptive"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be above 0")
        for name in ("r1", "start_step"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must not be negative")
        if self.r1_every < 1:
            raise ValueError(f"r1_every is {self.r1_every!r}; it must be at least 1")
