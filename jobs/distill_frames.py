"""ADD's game: heads on a frozen vision network judge decoded frames of the student.

The student jumps from noised clips, from one of its own times each. What it makes, and the clips
themselves, are decoded by the frozen autoencoder, so that heads judge the student and not the
decoder. Gradients go from the heads through the vision network and the decoder to the student. Of
long clips a window is decoded, as a clip of its own, for the clip and the student alike; where it
lies is drawn for each update.

Legend: B clips, T latent frames, D width of the vision network, x clean samples of the student.
"""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from jobs.distill_game import Game, TwoPlayerStep, comparison
from jobs.distill_heads import accuracy, pooled, without_gradient
from jobs.distill_setting import Batch, Lesson, Setting
from jobs.distill_stage import AddConfig
from video_models.autoencoder.model import Autoencoder
from video_models.distillation import add
from video_models.distillation.consistency import jump
from video_models.distillation.heads import Features, Heads
from video_models.image.features import FrameNetwork, Seen, open_frame_network
from video_platform.errors import ConfigError
from video_platform.training.draws import generator
from video_platform.training.loop import At


@dataclasses.dataclass
class FramesGame:
    """What both sides of the game look with."""

    setting: Setting
    config: AddConfig
    vision: FrameNetwork
    """Frozen, in fp32."""
    autoencoder: Autoencoder
    """Frozen, in fp32."""
    window: int | None
    """Latent frames that are decoded at once; None for all."""

    def heads_turn(self, step: TwoPlayerStep, batch: Batch, at: At) -> Lesson:
        """Teach the heads to tell clips from what the student makes of them, noised."""
        with torch.no_grad():
            x, t = self._denoised(step, batch, at)
            real, fake = (self._decoded(each, at) for each in (self._clean(batch, at), x))
            condition = self._condition(batch, real, t).to(step.second.dtype)
        verdict = add.discriminator_loss(
            cast(Heads, step.second.module), self._features(step), real, fake,
            grid=self._seen(real).grid, condition=condition, r1=self.setting.stage.penalty,
        )  # fmt: skip
        return Lesson(losses=verdict.loss, times=t, told=accuracy(verdict), backwards=0)

    def students_turn(self, step: TwoPlayerStep, batch: Batch, at: At) -> Lesson:
        """Make the heads take the student's frames for clips, and the teacher agree with them."""
        setting = self.setting
        x, t = self._denoised(step, batch, at)
        frames = self._decoded(x, at)
        with torch.no_grad():
            real = self._decoded(self._clean(batch, at), at)
            condition = self._condition(batch, real, t).to(step.second.dtype)
            grid = self._seen(real).grid
        noise, teachers_t = comparison(setting, batch, at)
        found = add.student_loss(
            without_gradient(step.second.module), self._features(step),
            setting.guided_teacher(setting.text(batch)), x, frames, noise, teachers_t,
            grid=grid, condition=condition, weight=self.config.weight,
        )  # fmt: skip
        return Lesson(
            losses=found.loss,
            times=t,
            told={"scores/generator": found.score, "scores/to_teacher": found.distance},
            forwards=1 + setting.teacher_calls,
        )

    def _denoised(self, step: TwoPlayerStep, batch: Batch, at: At) -> tuple[Tensor, Tensor]:
        """Return what the student makes of noised clips, and the time of each."""
        steps = self.setting.stage.steps or 1
        grid = self.setting.grid(steps).float().to(self.setting.device)
        t = grid[self.setting.index(batch, at, steps)]
        x_t = self.setting.noised(batch, at, t)
        student = step.velocity(step.student.module, batch)
        return jump(student, x_t, t, torch.zeros_like(t)), t

    def _clean(self, batch: Batch, at: At) -> Tensor:
        return self.setting.clean(batch, at).float()

    def _decoded(self, latents: Tensor, at: At) -> Tensor:
        """Return frames (B, 3, T, H, W) of normalised latents, or of a window of them."""
        T = latents.shape[2]
        length = min(self.window or T, T)
        draw = generator(at.seed, "window", at.step)
        start = int(torch.randint(T - length + 1, (1,), generator=draw))
        window = latents[:, :, start : start + length]
        return self.autoencoder.decode(self.autoencoder.denormalise(window))

    def _condition(self, batch: Batch, real: Tensor, t: Tensor) -> Tensor:
        """Return what the heads are told: the caption, and of which clip the student saw some.

        From pure noise nothing of the clip is left to be faithful to (the paper's section 3.2).
        """
        text = pooled(self.setting.text(batch)).float()
        return torch.cat((text, self._seen(real).summary * (t < 1)[:, None]), dim=1)

    def _features(self, step: TwoPlayerStep) -> Callable[[Tensor], Features]:
        return lambda frames: [each.to(step.second.dtype) for each in self._seen(frames).tokens]

    def _seen(self, frames: Tensor) -> Seen:
        seen: Seen = self.vision(frames)
        return seen


def open_frames_game(setting: Setting) -> tuple[nn.Module, Game]:
    """Open the frozen networks of ADD; return untrained heads, and the game.

    Raises:
        ConfigError: a folder or number of `add` does not fit.
    """
    config = setting.stage.add
    assert config is not None, "checked before"  # noqa: S101
    try:
        vision = open_frame_network(
            setting.vision or Path(config.vision), blocks=config.blocks, side=config.side
        )
    except ValueError as error:
        raise ConfigError(f"add: {error}") from None
    autoencoder = copy.deepcopy(setting.source.autoencoder).requires_grad_(False).eval()
    game = FramesGame(
        setting=setting,
        config=config,
        vision=vision.to(setting.device),
        autoencoder=autoencoder.to(setting.device),
        window=latent_frames(config.frames, autoencoder.config.temporal_factor),
    )
    told = setting.teacher.config.text_dim + vision.dim
    heads = Heads([vision.dim] * len(vision.blocks), condition_dim=told)
    return heads, Game(second=game.heads_turn, student=game.students_turn)


def latent_frames(frames: int | None, factor: int) -> int | None:
    """Return how many latent frames hold so many frames; None for all.

    Raises:
        ConfigError: so many frames are no whole latents.
    """
    if frames is None:
        return None
    latents, rest = divmod(frames - 1, factor)
    if rest:
        raise ConfigError(
            f"add.frames is {frames!r}; this autoencoder takes 1, {1 + factor}, {1 + 2 * factor}, "
            "..., or null for the whole clip"
        )
    return latents + 1
