"""The only training loop: batch, step, count, hooks, save, stop.

What is trained is the step's business: it owns forward, backward and its engines; an autoencoder
with a discriminator, a diffusion model, a two-player distillation all run through here unchanged.

    class Denoise:                                     # lives in a job
        def __init__(self, engine): self.engines = {"model": engine}
        def update(self, micro_batches, at):
            scalars = Scalars()
            for batch in micro_batches:
                loss = flow_matching_loss(self.engines["model"].module, batch.data, ...)
                self.engines["model"].backward(loss, share=batch.share)
                scalars.add({"loss": loss}, share=batch.share)
            self.engines["model"].step()
            return scalars.totals
        def state_dict(self): return {}
        def load_state_dict(self, state): pass

    train(Denoise(engine), loader, config, report=print)
"""

import contextlib
import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from video_platform.batches.loader import MicroBatch
from video_platform.errors import DivergedError
from video_platform.training.attempt import Attempt
from video_platform.training.checkpoint import Checkpoints
from video_platform.training.config import TrainingConfig
from video_platform.training.faults import SkipPolicy, Verdict, stop_on_sigterm
from video_platform.training.step import At, Batches, Hook, Outcome, Stateless, Step
from video_platform.training.throughput import Ledger
from video_platform.training.window import Report, Scalars, Window

__all__ = ["At", "Batches", "Hook", "Outcome", "Report", "Scalars", "Stateless", "Step", "train"]
log = logging.getLogger(__name__)


def train(
    step: Step,
    batches: Batches,
    config: TrainingConfig,
    *,
    checkpoints: Checkpoints | None = None,
    hooks: Sequence[Hook] = (),
    report: Report | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    attempt: Attempt | None = None,
) -> Outcome:
    """Run to the last step, from the newest checkpoint if there is one. Called on every rank.

    Args:
        step: what an update is.
        batches: this rank's micro-batches.
        config: how long, and how often the rest happens.
        checkpoints: where to resume from and save to; None keeps nothing.
        hooks: run on every rank after the steps that are due.
        report: receives scalars on rank 0.
        should_stop: asked on every rank after every step; if one says yes, or got SIGTERM, all save
            and stop at the same step.
        attempt: since when the run and this life of it go on, and who watches it.

    Raises:
        DivergedError: losses or gradients stay non-finite after all rewinds.
        CheckpointError: a checkpoint cannot be written, or belongs to another run.
    """
    run = _Run(step, batches, config, checkpoints, Ledger(attempt or Attempt()), report)
    start = run.resume()
    with stop_on_sigterm() as flag, contextlib.closing(batches.steps()) as source:
        stopping = False
        while run.done < config.steps and not stopping:
            if not run.update(source) and run.went_back():
                continue
            stopping = _any(flag.raised or should_stop() or run.failed())
            last = run.done == config.steps
            if run.done % config.log_every == 0 or last or stopping:
                run.window.close(run.done, step.engines, run.counts)
            for hook in hooks:
                if hook.every is not None and (run.done % hook.every == 0 or last):
                    with run.phase("hooks"):
                        run.window.report(run.done, hook.run(run.done))
            due = config.checkpoint_every is not None and run.done % config.checkpoint_every == 0
            if due or last or stopping:
                run.save(resting=last or stopping)
    return run.outcome(start)


class _Run:
    """A run's place, and what is done to move it on."""

    def __init__(
        self,
        step: Step,
        batches: Batches,
        config: TrainingConfig,
        checkpoints: Checkpoints | None,
        ledger: Ledger,
        report: Report | None,
    ) -> None:
        self._step, self._batches, self._config = step, batches, config
        self._checkpoints, self._ledger = checkpoints, ledger
        self._policy = SkipPolicy(config)
        self.window = Window(report, config, ledger)
        self.done = 0
        self._saved: int | None = None
        self._sound = False  # whether there is a good checkpoint to go back to
        self.counts = {"batches": 0, "skipped_steps": 0, "rewinds": 0}

    def phase(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Count the time inside the block."""
        return self._ledger.phase(name, f"step {self.done}")

    def resume(self) -> int:
        """Go on from the newest checkpoint; return after how many steps."""
        state = self._restore("newest")
        if state is not None and self._checkpoints is not None:
            self._sound = self._checkpoints.has_good()
            self._batches.load_state_dict(state["batches"])
            self._policy.load_state_dict(state["policy"])
            self._ledger.load_state_dict(state["ledger"])
            self.counts = dict(state["counts"])
            log.info("going on after step %d", self.done)
        return self.done

    def update(self, source: Iterator[list[MicroBatch[Any]]]) -> bool:
        """Take the next batch; return whether its update was applied to all networks."""
        engines = self._step.engines
        first = next(iter(engines.values()))
        reported = (self.done + 1) % self._config.log_every == 0
        pace = self.window.pace.measured(first.module, first.device)
        with pace if reported else contextlib.nullcontext():
            with self.phase("data"):
                taken = next(source)
            with self.phase("step"):
                scalars = self._step.update(taken, At(self.done, self._config.seed))
        self.done += 1
        self.counts["batches"] += 1
        skipped = [name for name, e in engines.items() if e.last and not e.last.applied]
        if skipped:
            self.counts["skipped_steps"] += 1
            self._tell_of_skip(skipped, taken, scalars)
        else:
            self.window.add(scalars, taken)
        return not skipped

    def went_back(self) -> bool:
        """Act on a skipped step: go back to the newest good checkpoint after too many.

        Raises:
            DivergedError: that has not helped, or there is none.
        """
        verdict = self._policy.judge(self.counts["batches"] - 1, checkpointed=self._sound)
        if verdict is Verdict.STOP:
            stuck = "" if self._sound else ", and there is no good checkpoint to go back to"
            raise DivergedError(
                f"{self._policy.reason}, last at step {self.done}{stuck}; lower "
                "learning_rate, set clip_norm, or look at the samples named in the log "
                "(max_skipped_steps, max_skipped_in_1000 and max_rewinds are the limits)"
            )
        if verdict is Verdict.REWIND:
            failed_at = self.done
            state = self._restore("good")
            if state is None:
                raise DivergedError(f"{self._policy.reason}, and no good checkpoint is left")
            self._ledger.rewind(state["ledger"])
            self.counts["rewinds"] += 1
            self.window.clear()
            log.warning(
                "%s up to step %d: back to step %d, and on with the batches that follow",
                self._policy.reason, failed_at, self.done,
            )  # fmt: skip
        return verdict is Verdict.REWIND

    def failed(self) -> bool:
        """Say whether a checkpoint could not be written, as far as this rank knows."""
        return self._checkpoints is not None and self._checkpoints.failed

    def save(self, *, resting: bool) -> None:
        """Begin to write a checkpoint, a good one unless the last update was skipped.

        Args:
            resting: whether the run ends with it.
        """
        if self._checkpoints is None:
            return
        with self.phase("save"):
            state = {
                "step": self._step.state_dict(),
                "batches": self._batches.state_dict(),
                "policy": self._policy.state_dict(),
                "ledger": self._ledger.state_dict(resting=resting),
                "counts": self.counts,
            }
            # It is written while the next steps change what these hold.
            frozen = copy.deepcopy(state)
            self._checkpoints.save(self._step.engines, step=self.done, state=frozen)
        self._saved = self.done
        results = (engine.last for engine in self._step.engines.values())
        if all(result is None or result.applied for result in results):
            self._checkpoints.mark_good(self.done)
            self._sound = True

    def outcome(self, start: int) -> Outcome:
        """Wait for the last checkpoint, and say how it ended."""
        if self._checkpoints is not None:
            with self.phase("save"):
                self._checkpoints.wait()
        log.info(
            "ended after %d of %d steps, saved at %s", self.done, self._config.steps, self._saved
        )
        return Outcome(
            step=self.done,
            finished=self.done >= self._config.steps,
            started_at=start,
            skipped_steps=self.counts["skipped_steps"],
            rewinds=self.counts["rewinds"],
            seconds=self._ledger.seconds,
        )

    def _restore(self, at: Literal["newest", "good"]) -> dict[str, Any] | None:
        """Load a checkpoint into the networks and the step; return what else it holds."""
        if self._checkpoints is None:
            return None
        with self.phase("restore"):
            manifest = self._checkpoints.restore(self._step.engines, at=at)
        if manifest is None:
            return None
        self._step.load_state_dict(manifest.state["step"])
        self.done = self._saved = manifest.step
        return manifest.state

    def _tell_of_skip(
        self,
        skipped: Sequence[str],
        taken: Sequence[MicroBatch[Any]],
        scalars: Mapping[str, Tensor],
    ) -> None:
        """Log the samples of a step that was not applied. Collective: the norm is global.

        They are those of the ranks whose loss is not finite, or of all where every loss is finite.
        """
        finite = all(math.isfinite(float(value)) for value in scalars.values())
        names = [self._batches.name(i) for batch in taken if batch.share for i in batch.indices]
        ranks: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(ranks, (finite, names))
        blamed = [r for r, (fine, _) in enumerate(ranks) if not fine] or range(len(ranks))
        if dist.get_rank() == 0:
            told = [f"samples of rank {rank}: {', '.join(ranks[rank][1])}" for rank in blamed]
            log.warning(
                "step %d: the loss or gradient of %s was not finite, nothing was updated; %s",
                self.done, ", ".join(skipped), "; ".join(told),
            )  # fmt: skip


def _any(mine: bool) -> bool:
    """Return whether any rank says yes."""
    if dist.get_world_size() == 1:
        return mine
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    flag = torch.tensor(int(mine), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag)
