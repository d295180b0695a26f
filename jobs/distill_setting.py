"""What every way to distil draws on: the stage, the frozen teacher, and draws for each sample.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import dataclasses

import torch
from torch import Tensor

from jobs.denoising import draw_noise
from jobs.distill_stage import StageConfig
from jobs.latents import LatentBatch, LatentSource
from video_models.diffusion.guidance import VelocityFunction, guided
from video_models.diffusion.paths import add_noise
from video_models.diffusion.timesteps import draw_times, sampling_grid
from video_models.text.batch import TextBatch
from video_models.transformer.family import AnyTransformer
from video_platform.batches.loader import MicroBatch
from video_platform.training.draws import generator
from video_platform.training.loop import At

Batch = MicroBatch[LatentBatch]


@dataclasses.dataclass(kw_only=True)
class Setting:
    """A stage on one rank."""

    stage: StageConfig
    """What is to be done."""
    source: LatentSource
    """Latents and captions."""
    teacher: AnyTransformer
    """Frozen, in the student's type."""
    scale: float
    """Of the teacher's guidance; 1 where it is baked in."""
    steps: int
    """That the teacher takes."""
    shift: float
    """Of the sampling grids."""
    device: torch.device
    """Where it all computes."""
    dtype: torch.dtype
    """Of the networks."""

    def text(self, batch: Batch) -> TextBatch:
        """Return the captions."""
        return batch.data.text.to(self.device, self.dtype)

    def clean(self, batch: Batch, at: At) -> Tensor:
        """Return normalised latents, (B, C, T, H, W)."""
        return self.source.latents(batch, at.seed).to(self.device)

    def noise(self, batch: Batch, at: At, *purpose: int | str) -> Tensor:
        """Return standard normal noise for a purpose; without one, that of `pretrain`."""
        if not purpose:
            return draw_noise(batch, at.seed).to(self.device)
        shape = batch.data.mean.shape[1:]
        draws = [
            torch.randn(shape, generator=generator(at.seed, "noise", *purpose, position))
            for position in batch.positions
        ]
        return torch.stack(draws).to(self.device)

    def times(self, batch: Batch, at: At, *purpose: int | str) -> Tensor:
        """Return a time for each sample from the stage's density, (B,)."""
        grid, config = self.teacher.token_grid(batch.data.mean), self.stage.timesteps
        draws = [
            draw_times(1, config, generator=generator(at.seed, "time", *purpose, p), grid=grid)
            for p in batch.positions
        ]
        return torch.cat(draws).to(self.device)

    def index(self, batch: Batch, at: At, count: int) -> Tensor:
        """Return one of so many steps for each sample, (B,) int."""
        draws = [
            torch.randint(count, (1,), generator=generator(at.seed, "time", position))
            for position in batch.positions
        ]
        return torch.cat(draws).to(self.device)

    def noised(self, batch: Batch, at: At, t: Tensor) -> Tensor:
        """Return the latents with noise at times (B,), in the networks' type."""
        x_t = add_noise(self.clean(batch, at), self.noise(batch, at), t.float())
        return x_t.to(self.dtype)

    def grid(self, steps: int) -> Tensor:
        """Return the times of so many steps."""
        return sampling_grid(steps, shift=self.shift)

    def guided_teacher(self, text: TextBatch) -> VelocityFunction:
        """Return the teacher's velocity under a text, guided at its own scale."""
        empty = self.source.empty_text.to(self.device, self.dtype)
        return guided(self.teacher, text, empty, self.scale)
