"""Students that a second trained network judges: two networks learn by turns.

Both read the same micro-batches. Of each `turns + 1` updates the last is the student's and the
others are the second network's, the same on every rank.

Legend: B clips, C latent channels, T H W latent frames, rows, columns; x clean samples of the
student.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from jobs.distill_setting import Batch, Setting
from jobs.distill_trajectory import angle_setting
from video_models.diffusion.guidance import VelocityFunction, conditioned
from video_models.diffusion.timesteps import shift_times
from video_models.distillation import ladd
from video_models.distillation.consistency import jump
from video_models.distillation.dmd import dmd_loss, simulated
from video_models.distillation.heads import Features, Heads
from video_models.distillation.moment_matching import (
    auxiliary_loss,
    denoise,
    matching_loss,
    noised_again,
)
from video_models.distillation.rcm import rcm_loss
from video_models.objectives.denoising import flow_matching_loss
from video_platform.training.draws import generator
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Scalars, Stateless

AWAY = 0.02
"""How far times of noise stay from 0 and 1, where denoisers say nothing."""


@dataclasses.dataclass
class TwoPlayerStep(Stateless):
    """One update of a student or of the network that judges it."""

    student: Engine
    second: Engine
    setting: Setting

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The two trained networks."""
        return {"student": self.student, "second": self.second}

    def update(self, micro_batches: Sequence[Batch], at: At) -> dict[str, Tensor]:
        """Let one of the two learn from each micro-batch and update once."""
        scalars, turns = Scalars(), self.setting.stage.turns
        students = at.step % (turns + 1) == turns
        game = GAMES[self.setting.stage.method]
        engine, loss_of = (self.student, game.student) if students else (self.second, game.second)
        name = "loss" if students else "second_loss"
        (self.second if students else self.student).last = None  # nothing of it is new
        for batch in micro_batches:
            loss = loss_of(self, batch, at).mean()
            engine.backward(loss, share=batch.share)
            share = torch.tensor(batch.share)
            scalars.add_parts({name: loss * batch.share}, {name: share})
        engine.step()
        return scalars.totals

    def velocity(self, engine: Engine, batch: Batch) -> VelocityFunction:
        """Return a network under a batch's captions."""
        return conditioned(engine.module, self.setting.text(batch))

    def sample(self, batch: Batch, at: At) -> Tensor:
        """Return clean samples of the student, on its graph where gradients are on.

        Its earlier steps run from pure noise, without a graph; which step is trained is drawn for
        the whole batch.
        """
        setting, network = self.setting, self.velocity(self.student, batch)
        steps = setting.stage.steps or 1
        draw = generator(at.seed, "step", at.step)
        index, grid = int(torch.randint(steps, (1,), generator=draw)), setting.grid(steps)
        noise = setting.noise(batch, at).to(setting.dtype)
        x = simulated(
            network, noise, grid, index,
            lambda i: setting.noise(batch, at, "again", i).to(setting.dtype),
        )  # fmt: skip
        t = grid[index].float().expand(len(x)).to(x.device)
        return jump(network, x, t, torch.zeros_like(t))


Turn = Callable[[TwoPlayerStep, Batch, At], Tensor]
"""The loss of each sample in a player's turn, (B,)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """The two sides of a method."""

    second: Turn
    student: Turn


def fake_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Tensor:
    """Teach the second network to denoise the student's samples."""
    with torch.no_grad():
        x = step.sample(batch, at)
    noise, t = _comparison(step.setting, batch, at)
    return flow_matching_loss(step.velocity(step.second, batch), x, noise=noise, t=t)


def dmd_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Tensor:
    """Push the student's samples from its own denoiser's answer to the teacher's."""
    x = step.sample(batch, at)
    noise, t = _comparison(step.setting, batch, at)
    teacher = step.setting.guided_teacher(step.setting.text(batch))
    return dmd_loss(step.velocity(step.second, batch), teacher, x, noise, t)


def rcm_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Tensor:
    """Follow the teacher's trajectories and match its distribution, both at once."""
    setting = step.setting
    student, teacher, x, angle = angle_setting(setting, step.student.module, batch, at)
    done, warmup = at.step // (setting.stage.turns + 1), setting.stage.tangent_warmup
    consistency = rcm_loss(student, teacher, x, angle, warmup=min(1.0, done / warmup))
    numel = x[0].numel()
    return consistency / numel + setting.stage.dmd_weight * dmd_turn(step, batch, at)


def auxiliary_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Tensor:
    """Teach the second network where the student's samples, noised, denoise to."""
    with torch.no_grad():
        clean, z_s, s = _matched(step, batch, at)
    teacher = step.setting.guided_teacher(step.setting.text(batch))
    return auxiliary_loss(step.velocity(step.second, batch), teacher, clean, z_s, s)


def matching_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Tensor:
    """Move the student against the difference of the two denoisers."""
    clean, z_s, s = _matched(step, batch, at)
    teacher = step.setting.guided_teacher(step.setting.text(batch))
    return matching_loss(step.velocity(step.second, batch), teacher, clean, z_s.detach(), s)


def _matched(step: TwoPlayerStep, batch: Batch, at: At) -> tuple[Tensor, Tensor, Tensor]:
    """Return the student's samples, these noised through the posterior, and at which times."""
    setting, steps = step.setting, step.setting.stage.steps or 1
    index = setting.index(batch, at, steps).double()
    inside = [1 - torch.rand(1, generator=generator(at.seed, "inside", p)) for p in batch.positions]
    later = index + torch.cat(inside).to(index)
    t, s = (shift_times(1 - place / steps, setting.shift).float() for place in (index, later))
    z_t = setting.noised(batch, at, t)
    clean = denoise(step.velocity(step.student, batch), z_t, t)
    noise = setting.noise(batch, at, "again").to(setting.dtype)
    return clean, noised_again(clean.detach(), z_t, t, s, noise), s


def heads_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Tensor:
    """Teach the heads to tell clips of the data from the student's."""
    with torch.no_grad():
        fake = step.sample(batch, at)
    view = _view(step, batch, at)
    real = step.setting.clean(batch, at).to(fake)
    return ladd.discriminator_loss(
        cast(Heads, step.second.module), view.features, real, fake, view.noise, view.t,
        grid=view.grid, condition=view.condition, r1=step.setting.stage.second.r1,
    )  # fmt: skip


def believed_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Tensor:
    """Make the heads take the student's samples for clips; they gather no gradient."""
    heads, view = step.second.module, _view(step, batch, at)
    still = {name: parameter.detach() for name, parameter in heads.named_parameters()}

    def judge(*given: Any) -> Tensor:
        logits: Tensor = functional_call(heads, still, given)
        return logits

    return ladd.student_loss(
        judge, view.features, step.sample(batch, at), view.noise, view.t,
        grid=view.grid, condition=view.condition,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class _View:
    """How the heads look at samples."""

    features: Callable[[Tensor, Tensor], Features]
    noise: Tensor
    t: Tensor
    grid: tuple[int, int, int]
    condition: Tensor


def _view(step: TwoPlayerStep, batch: Batch, at: At) -> _View:
    setting, text = step.setting, step.setting.text(batch)
    noise, t = _comparison(setting, batch, at)
    blocks = head_blocks(setting)

    def features(x: Tensor, time: Tensor) -> Features:
        _, tokens = setting.teacher(x, time, text.embeddings, text_mask=text.mask, features=blocks)
        return [tokens[block].to(step.second.dtype) for block in blocks]

    weight = text.mask[..., None].to(text.embeddings)
    pooled = (text.embeddings * weight).sum(dim=1) / weight.sum(dim=1)
    grid = setting.teacher.token_grid(batch.data.mean)
    return _View(
        features=features, noise=noise, t=t, grid=grid, condition=pooled.to(step.second.dtype)
    )


def head_blocks(setting: Setting) -> tuple[int, ...]:
    """Return after which of the teacher's blocks the heads sit: as asked, or three spread ones."""
    layers = setting.teacher.config.num_layers
    spread = sorted({layers // 2, 3 * layers // 4, layers - 1})
    return setting.stage.second.blocks or tuple(spread)


def open_second(setting: Setting) -> nn.Module:
    """Build the second network: a copy of the teacher, or heads on its tokens."""
    if setting.stage.method != "ladd":
        return copy.deepcopy(setting.teacher).requires_grad_(True).train()
    config, blocks = setting.teacher.config, head_blocks(setting)
    return Heads([config.dim] * len(blocks), condition_dim=config.text_dim)


def _comparison(setting: Setting, batch: Batch, at: At) -> tuple[Tensor, Tensor]:
    """Return the noise and the times at which samples are compared."""
    noise = setting.noise(batch, at, "compare").to(setting.dtype)
    return noise, setting.times(batch, at, "compare").clamp(AWAY, 1 - AWAY)


GAMES: dict[str, Game] = {
    "dmd": Game(second=fake_turn, student=dmd_turn),
    "ladd": Game(second=heads_turn, student=believed_turn),
    "moment_matching": Game(second=auxiliary_turn, student=matching_turn),
    "rcm": Game(second=fake_turn, student=rcm_turn),
}
"""Both sides of a method, by its name."""
