"""How the autoencoder is trained, as a recipe says it: the section `autoencoder`."""

import dataclasses
from typing import Literal

from video_models.autoencoder.config import AutoencoderConfig
from video_models.autoencoder.quantiser_config import QuantiserConfig
from video_models.objectives.config import AdversarialConfig, ReconstructionConfig
from video_platform.training.config import TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderSection:
    """The 3D causal autoencoder: where it is, and how it is trained."""

    path: str | None = None
    """Its folder, ours or a published one: `train-autoencoder` writes it, every other job reads
    it. None is `<project>/autoencoder`."""

    preset: str | None = None
    """The size to train, by name in `video_models.presets.AUTOENCODERS`; or give `config`."""

    config: AutoencoderConfig | None = None
    """The size to train, spelled out."""

    quantiser: QuantiserConfig | None = None
    """A codebook between encoder and decoder, which makes latents tokens; None for the continuous
    autoencoder."""

    start_from: str | None = None
    """An autoencoder's folder whose weights training starts from: the same size, or one of images,
    whose kernels span one frame and are inflated. None starts afresh."""

    train: Literal["all", "decoder"] = "all"
    """`decoder` leaves all before the latents as `start_from` has it, so that latents and tokens
    stay what they are."""

    training: TrainingConfig | None = None
    """How it is trained; not needed for one that exists."""

    loss: ReconstructionConfig = ReconstructionConfig()
    """What it is trained for."""

    adversarial: AdversarialConfig | None = None
    """A discriminator that it must convince besides; None for none."""

    image_stage: float = 0.0
    """Share of the steps, at the start, that train on single frames: a clip of one frame costs a
    fraction of a whole one, and most of what there is to learn is in it."""

    image_share: float = 0.0
    """Share of the steps after the image stage that train on single frames, drawn step by step."""

    images_per_clip: int = 4
    """Frames that each clip of a batch gives while images are trained."""

    def __post_init__(self) -> None:
        """Check the stages."""
        for name in ("image_stage", "image_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)!r}; it must be in [0, 1]")
        if self.images_per_clip < 1:
            raise ValueError(f"images_per_clip = {self.images_per_clip!r}; it must be at least 1")
        if self.train == "decoder" and self.start_from is None:
            raise ValueError("train = 'decoder' needs start_from, whose encoder stays as it is")
        if self.training is not None and self.training.sequence_parallel > 1:
            raise ValueError(
                f"training.sequence_parallel = {self.training.sequence_parallel!r} shares a "
                "transformer's tokens among workers, and an autoencoder has none; leave it at 1, "
                "and lower training.micro_batch_size or the pixels where memory is short"
            )
        if self.adversarial is not None and self.training is not None:
            self._check_game(self.adversarial, self.training)

    def _check_game(self, game: AdversarialConfig, training: TrainingConfig) -> None:
        if training.zero_stage == 3:
            raise ValueError(
                "adversarial needs whole kernels for its adaptive weight and its penalty, and "
                "training.zero_stage 3 cuts them up; use zero_stage 0, 1 or 2"
            )
        if game.start_step >= training.steps:
            raise ValueError(
                f"adversarial.start_step = {game.start_step!r} is never reached in "
                f"{training.steps} steps; lower it or raise training.steps"
            )
