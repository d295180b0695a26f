"""Games whose second network is small heads on the frozen teacher's tokens.

Legend: B clips, N tokens, D their width, x clean samples of the student.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from jobs.distill_game import Game, TwoPlayerStep, comparison
from jobs.distill_setting import Batch, Lesson, Setting
from video_models.distillation import ladd
from video_models.distillation.heads import Features, Heads, Verdict
from video_models.text.batch import TextBatch
from video_models.transformer.family import AnyTransformer
from video_platform.training.loop import At


class Judges(nn.Module):
    """A denoiser of the student's samples, and heads that tell them from clips.

    Called as the denoiser is.
    """

    def __init__(self, fake: AnyTransformer, heads: Heads) -> None:
        super().__init__()
        self.fake, self.heads = fake, heads

    def forward(self, *given: Any, **condition: Any) -> Any:
        """Return what the denoiser says."""
        return self.fake(*given, **condition)

    def block_names(self) -> tuple[str, ...]:
        """Return the denoiser's blocks."""
        return tuple(f"fake.{name}" for name in self.fake.block_names())


def heads_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Lesson:
    """Teach the heads to tell clips of the data from the student's."""
    with torch.no_grad():
        x = step.sample(batch, at)
    lesson = told_apart(step, step.second.module, x, batch, at)
    return dataclasses.replace(lesson, forwards=3 + step.sampled_step(at))


def believed_turn(step: TwoPlayerStep, batch: Batch, at: At) -> Lesson:
    """Make the heads take the student's samples for clips."""
    x = step.sample(batch, at)
    lesson = believed(step, step.second.module, x, batch, at)
    return dataclasses.replace(lesson, forwards=2 + step.sampled_step(at), backwards=2)


def told_apart(step: TwoPlayerStep, heads: nn.Module, x: Tensor, batch: Batch, at: At) -> Lesson:
    """Return what heads learn of samples and clips, both noised alike."""
    setting, view = step.setting, _view(step, batch, at)
    real = setting.clean(batch, at).to(x)
    verdict = ladd.discriminator_loss(
        cast(Heads, heads), view.features, real, x, view.noise, view.t,
        grid=view.grid, condition=view.condition, r1=setting.stage.penalty,
    )  # fmt: skip
    return Lesson(losses=verdict.loss, told=accuracy(verdict), forwards=2, backwards=0)


def believed(step: TwoPlayerStep, heads: nn.Module, x: Tensor, batch: Batch, at: At) -> Lesson:
    """Return what the student learns of heads that gather no gradient."""
    view = _view(step, batch, at)
    losses = ladd.student_loss(
        without_gradient(heads), view.features, x, view.noise, view.t,
        grid=view.grid, condition=view.condition,
    )  # fmt: skip
    return Lesson(losses=losses, times=view.t, told={"scores/generator": -losses.detach()})


def accuracy(verdict: Verdict) -> dict[str, Tensor]:
    """Return how often heads are right, and their mean scores; (B,) each."""
    told = {
        "heads/accuracy_real": verdict.real > 0,
        "heads/accuracy_fake": verdict.fake < 0,
        "scores/real": verdict.real,
        "scores/fake": verdict.fake,
    }
    return {name: value.float().mean(dim=1) for name, value in told.items()}


def without_gradient(module: nn.Module) -> Callable[..., Tensor]:
    """Return a module that passes gradient on to its inputs and gathers none."""
    still = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def call(*given: Any) -> Tensor:
        answer: Tensor = functional_call(module, still, given)
        return answer

    return call


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
    noise, t = comparison(setting, batch, at)
    blocks = head_blocks(setting)

    def features(x: Tensor, time: Tensor) -> Features:
        embeddings, mask = text.inputs
        _, tokens = setting.teacher(
            x.to(setting.dtype), time, embeddings, text_mask=mask, features=blocks
        )
        return [tokens[block].to(step.second.dtype) for block in blocks]

    return _View(
        features=features,
        noise=noise,
        t=t,
        grid=setting.teacher.token_grid(batch.data.mean),
        condition=pooled(text).to(step.second.dtype),
    )


def pooled(text: TextBatch) -> Tensor:
    """Return the mean of each caption's embeddings, (B, D)."""
    weight = text.mask[..., None].to(text.embeddings)
    return (text.embeddings * weight).sum(dim=1) / weight.sum(dim=1)


def head_blocks(setting: Setting) -> tuple[int, ...]:
    """Return after which of the teacher's blocks the heads sit: as asked, or three spread ones."""
    layers = setting.teacher.config.num_layers
    spread = sorted({layers // 2, 3 * layers // 4, layers - 1})
    return setting.stage.second.blocks or tuple(spread)


def open_heads(setting: Setting) -> Heads:
    """Build untrained heads on the teacher's tokens."""
    config, blocks = setting.teacher.config, head_blocks(setting)
    return Heads([config.dim] * len(blocks), condition_dim=config.text_dim)


LADD = Game(second=heads_turn, student=believed_turn)
