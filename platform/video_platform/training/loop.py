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
import dataclasses
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from video_platform.batches.loader import MicroBatch
from video_platform.training.checkpoint import Checkpoints
from video_platform.training.config import TrainingConfig
from video_platform.training.engine import Engine
from video_platform.training.faults import SkipWatch, stop_on_sigterm
from video_platform.training.throughput import Phases

log = logging.getLogger(__name__)
Report = Callable[[int, Mapping[str, float]], None]
"""Given the number of steps taken and scalars, on rank 0."""


@dataclasses.dataclass(frozen=True)
class At:
    """Where in the run an update happens."""

    step: int
    """Number of the update; the first is 0."""
    seed: int
    """Root of every draw; see `video_platform.training.draws`."""


class Step(Protocol):
    """One kind of training."""

    @property
    def engines(self) -> Mapping[str, Engine]:
        """The trained networks by name; each takes one optimiser step an update."""
        ...

    def update(self, micro_batches: Sequence[MicroBatch[Any]], at: At) -> Mapping[str, Tensor]:
        """Update the networks once.

        Returns:
            Scalars summed over this rank's micro-batches, each times its share (see `Scalars`):
            added over the ranks they are means over the global batch.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what must survive a restart beside the engines, as JSON."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        ...


class Stateless:
    """A step whose engines hold all that must survive a restart."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take nothing over."""


class Batches(Protocol):
    """Where micro-batches come from; `video_platform.batches.Loader` is one."""

    def steps(self) -> Generator[list[MicroBatch[Any]]]:
        """Yield the micro-batches of the next step and of every later one."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return where the sequence stands, as JSON."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hook:
    """Something that every rank does together every so often, such as validation."""

    every: int | None
    """Steps between two runs; it also runs after the last step. None never runs."""
    run: Callable[[int], Mapping[str, float]]
    """Given the number of steps taken; returns scalars to report."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    step: int
    """Steps taken in all."""
    finished: bool
    """False where the run was asked to stop; started again it goes on."""
    started_at: int
    """Steps that an earlier run had taken."""
    skipped_steps: int
    """Updates that were not applied, over all engines."""


class Scalars:
    """Adds up the scalars of micro-batches, without waiting for the device."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}

    def add(self, scalars: Mapping[str, Tensor], *, share: float) -> None:
        """Add the means over a micro-batch that makes up `share` of the global batch."""
        for name, value in scalars.items():
            part = value.detach().float() * share
            self.totals[name] = self.totals[name] + part if name in self.totals else part


def train(
    step: Step,
    batches: Batches,
    config: TrainingConfig,
    *,
    checkpoints: Checkpoints | None = None,
    hooks: Sequence[Hook] = (),
    report: Report | None = None,
    should_stop: Callable[[], bool] = lambda: False,
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

    Raises:
        TrainingError: gradients stay non-finite.
        CheckpointError: a checkpoint cannot be written, or belongs to another run.
    """
    start = _resume(step, batches, checkpoints)
    done = saved = start
    watch, phases, window = SkipWatch(config.max_skipped_steps), Phases(), _Window(report)
    with stop_on_sigterm() as flag, contextlib.closing(batches.steps()) as source:
        stopping = False
        while done < config.steps and not stopping:
            with phases.phase("data"):
                micro_batches = next(source)
            with phases.phase("step"):
                window.add(step.update(micro_batches, At(done, config.seed)), micro_batches)
                stopping = _any(flag.raised or should_stop())
            done += 1
            _watch_skips(step.engines, micro_batches, watch, done)
            last = done == config.steps
            if done % config.log_every == 0 or last or stopping:
                window.close(done, step.engines, phases)
            for hook in hooks:
                if hook.every is not None and (done % hook.every == 0 or last):
                    with phases.phase("hooks"):
                        window.report(done, hook.run(done))
            due = config.checkpoint_every is not None and done % config.checkpoint_every == 0
            if checkpoints is not None and (due or last or stopping):
                with phases.phase("save"):
                    state = {"step": step.state_dict(), "batches": batches.state_dict()}
                    checkpoints.save(step.engines, step=done, state=state)
                saved = done
    log.info("ended after %d of %d steps, saved at %d", done, config.steps, saved)
    skipped = sum(engine.skipped_steps for engine in step.engines.values())
    return Outcome(
        step=done, finished=done >= config.steps, started_at=start, skipped_steps=skipped
    )


class _Window:
    """The scalars between two reports."""

    def __init__(self, report: Report | None) -> None:
        self._report = report
        self._sums: dict[str, Tensor] = {}
        self._steps = self._samples = 0

    def add(self, scalars: Mapping[str, Tensor], micro_batches: Sequence[MicroBatch[Any]]) -> None:
        for name, value in scalars.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self._samples += sum(len(batch.indices) for batch in micro_batches if batch.share)

    def close(self, done: int, engines: Mapping[str, Engine], phases: Phases) -> None:
        """Average over ranks and steps, add what engines and clock know, report."""
        names = sorted(self._sums)
        local = [torch.tensor(float(self._samples)), *(self._sums[name] for name in names)]
        sums = torch.stack([value.float().cpu() for value in local])
        dist.all_reduce(sums := sums.to(next(iter(engines.values())).device))
        samples, *totals = sums.tolist()
        scalars = {name: total / self._steps for name, total in zip(names, totals, strict=True)}
        for name, engine in engines.items():
            if engine.last is not None:
                scalars[f"{name}/grad_norm"] = engine.last.grad_norm
                scalars[f"{name}/learning_rate"] = engine.last.learning_rate
            scalars[f"{name}/skipped_steps"] = float(engine.skipped_steps)
        scalars |= phases.read(steps=self._steps, samples=int(samples))
        self.report(done, scalars)
        self._sums, self._steps, self._samples = {}, 0, 0

    def report(self, done: int, scalars: Mapping[str, float]) -> None:
        if self._report is not None and dist.get_rank() == 0:
            self._report(done, scalars)


def _resume(step: Step, batches: Batches, checkpoints: Checkpoints | None) -> int:
    manifest = checkpoints.restore(step.engines) if checkpoints is not None else None
    if manifest is None:
        return 0
    batches.load_state_dict(manifest.state["batches"])
    step.load_state_dict(manifest.state["step"])
    log.info("going on after step %d", manifest.step)
    return manifest.step


def _watch_skips(
    engines: Mapping[str, Engine],
    micro_batches: Sequence[MicroBatch[Any]],
    watch: SkipWatch,
    done: int,
) -> None:
    """The norm is global, so that every rank comes to the same verdict."""
    skipped = [n for n, engine in engines.items() if engine.last and not engine.last.applied]
    if skipped:
        indices = [index for batch in micro_batches for index in batch.indices]
        log.warning(
            "step %d: the gradient of %s was not finite, nothing was updated; samples here: %s",
            done, ", ".join(skipped), indices,
        )  # fmt: skip
    watch.note(skipped, step=done)


def _any(mine: bool) -> bool:
    """Return whether any rank says yes."""
    if dist.get_world_size() == 1:
        return mine
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    flag = torch.tensor(int(mine), device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag)
