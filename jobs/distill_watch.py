"""What is told of a distillation besides its loss, and the curves that it draws.

Losses by time, gradient norms of both players and of each block, how often heads are right and what
they say of both sides, and what all that takes. Every rank adds its part; nothing waits.

Legend: B clips, T H W latent frames, rows, columns.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch

from jobs.curves import Curves, named, under
from jobs.denoising import block_norms, losses_by_time, scaled
from jobs.distill_config import DistillObserveConfig
from jobs.distill_setting import Batch, Lesson
from jobs.history import History
from jobs.meter import WORK, Meter
from video_models.transformer.joint_config import AnyTransformerConfig
from video_models.transformer.joint_costs import any_costs
from video_platform.training.config import TrainingConfig
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Report, Scalars

Role = Literal["student", "second"]
PREFIX: dict[Role, str] = {"student": "", "second": "second_"}
"""Before the names of losses."""
KEPT = (
    "loss",
    "second_loss",
    "grad_norm_by_block/",
    "student/grad_norm",
    "student/learning_rate",
    "second/grad_norm",
    "second/learning_rate",
    "heads/",
    "scores/",
)
"""Beginnings of the names of scalars that make curves."""


class Watch:
    """Notes what players learn, and remembers it over restarts.

    Args:
        size: of the transformer.
        training: of the stage.
        config: what is told.
        world: ranks that train.
        peak_tflops: what one device can do at most; None tells no utilisation.

    Attributes:
        history: what the stage has measured.
    """

    def __init__(
        self,
        size: AnyTransformerConfig,
        training: TrainingConfig,
        config: DistillObserveConfig,
        *,
        world: int,
        peak_tflops: float | None = None,
    ) -> None:
        self.history = History(KEPT)
        self._size, self._training, self._config, self._world = size, training, config, world
        self._meter = Meter(size, world=world, peak_tflops=peak_tflops)

    def lesson(self, scalars: Scalars, lesson: Lesson, batch: Batch, *, role: Role) -> None:
        """Note what a player learned from a micro-batch."""
        counted, prefix = float(batch.share > 0), PREFIX[role]
        means = {f"{prefix}loss": lesson.losses, **lesson.told}
        share = torch.tensor(batch.share)
        scalars.add_parts(
            {name: value.detach().float().mean() * batch.share for name, value in means.items()},
            dict.fromkeys(means, share),
        )
        if lesson.times is not None:
            parts = losses_by_time(lesson.losses, lesson.times, self._config.time_buckets)
            sums, counts = ({f"{prefix}{n}": v for n, v in part.items()} for part in parts)
            scalars.add_parts(scaled(sums, counted), scaled(counts, counted))
        scalars.add(self._work(lesson, batch), share=counted)

    def step(
        self, scalars: Scalars, engine: Engine, at: At, *, role: Role = "student", turns: int = 0
    ) -> None:
        """Let a player update its network, and note how large its gradient was. Collective.

        Args:
            scalars: of the update.
            engine: of the network.
            at: where in the run.
            role: whose network it is.
            turns: updates of the other player between two of this one.
        """
        by_block = role == "student" and self._config.grad_norms and self._near_log(at, turns)
        result = engine.step(by_block=by_block)
        share = torch.tensor(1.0 / self._world)
        if result.applied:
            name = f"{role}/grad_norm"
            scalars.add_parts({name: share * result.grad_norm}, {name: share})
        scalars.add_parts(*block_norms(result.block_norms, world=self._world))

    def reporting(self, report: Report) -> Report:
        """Report rates as well, and remember what makes curves."""

        def told(step: int, scalars: Mapping[str, float]) -> None:
            self.history.note(step, scalars)
            shown = {name: v for name, v in scalars.items() if not name.startswith("batch/")}
            report(step, shown | self._meter.rates(scalars))

        return told

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured so far."""
        return {"history": self.history.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.history.load_state_dict(state["history"])

    def _near_log(self, at: At, turns: int) -> bool:
        """Say whether this is the last turn of a player before a report."""
        done, every = at.step + 1, self._training.log_every
        report = min(math.ceil(done / every) * every, self._training.steps)
        return report - done <= turns

    def _work(self, lesson: Lesson, batch: Batch) -> dict[str, torch.Tensor]:
        """Return clips, tokens and TFLOP of what a player learned from."""
        B, _, T, H, W = batch.data.mean.shape
        costs = any_costs(self._size, (T, H, W), batch=B, text_tokens=batch.data.text.lengths)
        flop = lesson.forwards * costs.forward.total + lesson.backwards * costs.backward.total
        counts = zip(WORK, (B, costs.tokens, flop / 1e12), strict=True)
        return {f"batch/{name}": torch.tensor(float(n)) for name, n in counts}


def panels(curves: Curves) -> dict[str, Curves]:
    """Return the curves of a distillation by panel."""
    players = {"student": "student", "second network": "second"}
    return {
        "loss": named(curves, {"student": "loss", "second network": "second_loss"}),
        "loss by time t": under(curves, "loss_by_time/"),
        "second network's loss by time t": under(curves, "second_loss_by_time/"),
        "share of verdicts that are right": under(curves, "heads/accuracy_"),
        "scores": under(curves, "scores/"),
        "gradient norm": named(curves, {k: f"{v}/grad_norm" for k, v in players.items()}),
        "gradient norm by block": under(curves, "grad_norm_by_block/"),
        "learning rate": named(curves, {k: f"{v}/learning_rate" for k, v in players.items()}),
    }
