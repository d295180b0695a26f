"""What every way to distil draws on: the stage, the frozen teacher, and draws for each sample.

Legend: B clips, C latent channels, T H W latent frames, rows, columns.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jobs.denoising import draw_noise
from jobs.distill_stage import FOLLOWERS, StageConfig
from jobs.latents import LatentBatch, LatentSource
from video_models.diffusion.config import TimestepConfig
from video_models.diffusion.guidance import Combine, Network, VelocityFunction, conditioned, guided
from video_models.diffusion.guidance_config import GuidanceConfig
from video_models.diffusion.guidance_rules import open_rule
from video_models.diffusion.paths import add_noise, spread
from video_models.diffusion.timesteps import draw_times, sampling_grid
from video_models.text.batch import TextBatch
from video_models.transformer.family import AnyTransformer
from video_platform.batches.loader import MicroBatch
from video_platform.training.draws import generator
from video_platform.training.loop import At

Batch = MicroBatch[LatentBatch]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a network learns from a micro-batch, and what it takes."""

    losses: Tensor
    """Of each sample, (B,), on the graph of the network."""
    times: Tensor | None = None
    """At which each was measured, (B,); None where that says nothing."""
    told: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    """What else is worth a curve, by name; (B,) each."""
    forwards: float = 1
    """Forward passes of networks of the student's size for each sample."""
    backwards: float = 1
    """Backward passes of such networks."""

    def __add__(self, other: "Lesson") -> "Lesson":
        """Return both at once; the times are those of the first."""
        return Lesson(
            losses=self.losses + other.losses,
            times=self.times,
            told={**self.told, **other.told},
            forwards=self.forwards + other.forwards,
            backwards=self.backwards + other.backwards,
        )

    def weighed(self, weight: float) -> "Lesson":
        """Return the same with losses that count so much."""
        return dataclasses.replace(self, losses=weight * self.losses)


@dataclasses.dataclass(kw_only=True)
class Setting:
    """A stage on one rank.

    Samples and velocities are fp32 in all of it, whatever the networks compute in: differences of
    close velocities over short steps are what is learned from.
    """

    stage: StageConfig
    """What is to be done."""
    source: LatentSource
    """Latents and captions."""
    teacher: AnyTransformer
    """Frozen, in the student's type."""
    start: AnyTransformer
    """What the student begins as, in fp32."""
    scale: float
    """Of the teacher's guidance; 1 where it is baked in."""
    guiding: GuidanceConfig
    """What tempers the teacher's guidance."""
    steps: int
    """That the teacher takes."""
    shift: float
    """Of the sampling grids."""
    device: torch.device
    """Where it all computes."""
    dtype: torch.dtype
    """Of the networks."""
    vision: Path | None = None
    """Where this machine has the folder of `add.vision`."""

    @property
    def teacher_calls(self) -> int:
        """Forward passes of the teacher for one guided velocity."""
        return 1 if self.scale == 1 else 2

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
        grid = self.teacher.token_grid(batch.data.mean)
        config = self.stage.timesteps or TimestepConfig(density="uniform", shift=self.shift)
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
        """Return the latents with noise at times (B,)."""
        return add_noise(self.clean(batch, at), self.noise(batch, at), t.float())

    def grid(self, steps: int) -> Tensor:
        """Return the times of so many steps."""
        return sampling_grid(steps, shift=self.shift)

    def network(self, module: nn.Module) -> Network:
        """Return a network of fp32 samples and velocities."""

        def call(x: Tensor, t: Tensor, text: Tensor, **condition: Any) -> Tensor:
            v: Tensor = module(x.to(self.dtype), t, text, **condition)
            return v.float()

        return call

    def velocity(self, module: nn.Module, text: TextBatch) -> VelocityFunction:
        """Return a network's velocity under a text, without guidance."""
        return conditioned(self.network(module), text)

    def guided_teacher(self, text: TextBatch) -> VelocityFunction:
        """Return the teacher's velocity under a text, guided as it is sampled.

        Where it is left out of the first steps, a method that asks the teacher for clean samples
        gets its velocity all the same: a velocity of 0 says nothing about them.
        """
        empty, guiding = self.source.empty_text.to(self.device, self.dtype), self.guiding
        if self.stage.method not in FOLLOWERS:
            guiding = dataclasses.replace(guiding, zero_above=1.0)
        combine = tempered(guiding)
        return guided(self.network(self.teacher), text, empty, self.scale, combine=combine)


def tempered(config: GuidanceConfig) -> Combine:
    """Return a rule of guidance for samples at times of their own.

    It is `video_models.diffusion.guidance_rules.steered`, which has all samples at one time, but
    for rules that remember the steps before: here there are none.
    """
    rule, (low, high) = open_rule(dataclasses.replace(config, momentum=0.0)), config.interval

    def combine(
        conditional: Tensor, unconditional: Tensor, scale: Tensor | float, x: Tensor, t: Tensor
    ) -> Tensor:
        both = rule(conditional, unconditional, scale, x, t)
        inside = spread((low < t) & (t <= high), x)
        v = torch.where(inside, both, conditional)
        return torch.where(spread(t <= config.zero_above, x), v, torch.zeros_like(v))

    return combine
