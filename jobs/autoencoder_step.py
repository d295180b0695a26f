"""One update of an autoencoder, with or without a codebook, with or without a discriminator.

Legend: B clips, C channels, T frames, H W pixels.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

from jobs.adversary import Adversary
from jobs.autoencoder_config import AutoencoderSection
from pipelines.pixels import to_video
from video_models.autoencoder.model import Autoencoder
from video_models.autoencoder.tokens import TokenAutoencoder
from video_models.autoencoder.warm_start import AnyAutoencoder
from video_models.objectives.reconstruction import Perceptual, reconstruction_terms
from video_platform.batches.loader import MicroBatch
from video_platform.training.draws import generator
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Scalars, Stateless


@dataclasses.dataclass
class ReconstructionStep(Stateless):
    """Reconstruct the clips of a batch, or single frames of them, and update once."""

    engine: Engine
    section: AutoencoderSection
    steps: int
    """Of the whole run, which the image stage is a share of."""
    perceptual: Perceptual | None = None
    adversary: Adversary | None = None

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The trained networks."""
        engines = {"autoencoder": self.engine}
        if self.adversary is not None:
            engines["discriminator"] = self.adversary.engine
        return engines

    @property
    def model(self) -> AnyAutoencoder:
        """The autoencoder."""
        return cast(AnyAutoencoder, self.engine.module)

    def update(self, micro_batches: Sequence[MicroBatch[Tensor]], at: At) -> dict[str, Tensor]:
        """Reconstruct each micro-batch and update the networks, and the codebook, once."""
        scalars, each = Scalars(), self.section.images_per_clip
        images = trains_on_images(self.section, at, steps=self.steps)
        adversary = self.adversary if self.adversary and self.adversary.plays(at) else None
        for batch in micro_batches:
            video = frames_of(batch, at.seed, each) if images else to_video(batch.data)
            video = video.to(self.engine.device, self.engine.dtype)
            scalars.add(self._learn(video, batch, at, adversary), share=batch.share)
        self.engine.step()
        if adversary is not None:
            adversary.engine.step()
        return scalars.totals | self._update_codebook()

    def _learn(
        self, video: Tensor, batch: MicroBatch[Tensor], at: At, adversary: Adversary | None
    ) -> dict[str, Tensor]:
        """Add the gradients of one micro-batch; return its scalars."""
        reconstruction, code = self.model(video, self._noise(batch, at, video))
        terms = reconstruction_terms(
            reconstruction, video, code, self.section.loss, perceptual=self.perceptual
        )
        means = {name: term.mean() for name, term in terms.items()}
        loss = means["loss"]
        if adversary is not None:
            kernel = self.model.decoder.conv_out.weight
            loss, told = adversary.charge(reconstruction, loss, kernel=kernel, share=batch.share)
            means |= told
        self.engine.backward(loss, share=batch.share)
        if adversary is not None:
            means |= adversary.learn(video, reconstruction, at=at, share=batch.share)
        return means

    def _noise(self, batch: MicroBatch[Tensor], at: At, video: Tensor) -> Tensor | None:
        """Draw the noise of each clip's latents from its position in the run; tokens have none."""
        if not isinstance(self.model, Autoencoder):
            return None
        each = len(video) // len(batch.positions)
        shape = self.model.config.latent_shape(*video.shape[2:])
        noise = [
            torch.randn(each, *shape, generator=generator(at.seed, "latent", position))
            for position in batch.positions
        ]
        return torch.cat(noise).to(video)

    def _update_codebook(self) -> dict[str, Tensor]:
        """Let a codebook that is trained learn from all ranks; return how it is used. Collective.

        Each rank knows the whole, so each adds its part of it to the sum over ranks.
        """
        if not isinstance(self.model, TokenAutoencoder) or self.section.train == "decoder":
            return {}
        use = self.model.update_codebook(sum_over_ranks)
        world = dist.get_world_size()
        return {f"codebook/{name}": torch.tensor(value / world) for name, value in use.items()}


def trains_on_images(section: AutoencoderSection, at: At, *, steps: int) -> bool:
    """Say whether a step trains on single frames; the same on every rank and after a resume."""
    if at.step < int(section.image_stage * steps):
        return True
    draw = torch.rand((), generator=generator(at.seed, "image step", at.step))
    return bool(draw < section.image_share)


def frames_of(batch: MicroBatch[Tensor], seed: int, images_per_clip: int) -> Tensor:
    """Return some frames of each clip as clips of one, (B images_per_clip, 3, 1, H, W)."""
    frames = []
    for clip, position in zip(batch.data, batch.positions, strict=True):
        order = torch.randperm(len(clip), generator=generator(seed, "frames", position))
        frames.append(clip[order[:images_per_clip]])
    return to_video(torch.cat(frames).unsqueeze(1))


def sum_over_ranks(tensor: Tensor) -> None:
    """Sum a tensor over all ranks, in place."""
    dist.all_reduce(tensor)
