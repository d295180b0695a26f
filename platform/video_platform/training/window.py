"""What is told of the steps between two reports.

Scalars over all ranks and steps, rates, spikes, stragglers, goodput.
"""

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from video_platform.batches.loader import MicroBatch
from video_platform.training.config import TrainingConfig
from video_platform.training.engine import Engine
from video_platform.training.faults import SpikeWatch, find_stragglers
from video_platform.training.throughput import Ledger, Pace

log = logging.getLogger(__name__)
Report = Callable[[int, Mapping[str, float]], None]
"""Given the number of steps taken and scalars, on rank 0."""
COUNT = " count"
"""Ending of the name of a total that another is divided by."""


class Scalars:
    """Adds up the scalars of micro-batches, without waiting for the device."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}

    def add(self, scalars: Mapping[str, Tensor], *, share: float) -> None:
        """Add the means over a micro-batch that makes up `share` of the global batch."""
        for name, value in scalars.items():
            self._add(name, value.detach().float() * share)

    def add_parts(self, totals: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> None:
        """Add totals over some samples only, such as those of a timestep bucket.

        Every rank names the same ones in every step. What is reported is the mean over all such
        samples since the last report; nothing where there were none.

        Args:
            totals: by name.
            counts: how many samples each is the total of, by the same names.
        """
        for name, total in totals.items():
            self._add(name, total.detach().float())
            self._add(name + COUNT, counts[name].detach().float())

    def _add(self, name: str, part: Tensor) -> None:
        self.totals[name] = self.totals[name] + part if name in self.totals else part


class Window:
    """Collects between two reports; every rank has one and closes it at the same steps.

    Args:
        report: called on rank 0.
        config: what counts as a spike and as a straggler.
        ledger: where time went.
    """

    def __init__(self, report: Report | None, config: TrainingConfig, ledger: Ledger) -> None:
        self.pace = Pace()
        self._tell, self._config, self._ledger = report, config, ledger
        self._spikes = SpikeWatch(config.spike_deviations)
        self._hosts: list[str] = []
        self._num_spikes = 0
        self.clear()

    def clear(self) -> None:
        """Forget what was collected."""
        self._sums: dict[str, Tensor] = {}
        self._steps = self._samples = 0

    def add(self, scalars: Mapping[str, Tensor], micro_batches: Sequence[MicroBatch[Any]]) -> None:
        """Collect one step."""
        for name, value in scalars.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self._samples += sum(len(batch.indices) for batch in micro_batches if batch.share)

    def close(self, done: int, engines: Mapping[str, Engine], counts: Mapping[str, int]) -> None:
        """Average over ranks and steps, add what engines and clock know, report. Collective.

        Args:
            done: steps taken.
            engines: the trained networks by name.
            counts: what happened in the whole run, by name.
        """
        device = next(iter(engines.values())).device
        names = sorted(self._sums)
        local = [torch.tensor(float(self._samples)), *(self._sums[name] for name in names)]
        sums = torch.stack([value.float().cpu() for value in local])
        dist.all_reduce(sums := sums.to(device))
        samples, *totals = sums.tolist()
        scalars = self._means(dict(zip(names, totals, strict=True)))
        for name, engine in engines.items():
            if engine.last is not None:
                scalars[f"{name}/grad_norm"] = engine.last.grad_norm
                scalars[f"{name}/learning_rate"] = engine.last.learning_rate
            scalars[f"{name}/skipped_steps"] = float(engine.skipped_steps)
        self._look_for_spikes(done, scalars)
        scalars["loss_spikes"] = float(self._num_spikes)
        samples /= self._config.sequence_parallel  # so many ranks count each
        rates = self._ledger.read(steps=self._steps, samples=int(samples))
        scalars |= rates | self._ledger.goodput() | {n: float(count) for n, count in counts.items()}
        if self._steps:
            scalars |= self._compare_ranks(done, 1 / rates["steps_per_s"], device)
        self.report(done, scalars)
        self.clear()

    def report(self, done: int, scalars: Mapping[str, float]) -> None:
        """Report scalars, on rank 0."""
        if self._tell is not None and dist.get_rank() == 0:
            self._tell(done, scalars)

    def _means(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Divide by the steps, or by a count of its own where a total has one."""
        means = {}
        for name, total in totals.items():
            count = totals.get(name + COUNT, float(self._steps))
            if count and not name.endswith(COUNT):
                means[name] = total / count
        return means

    def _look_for_spikes(self, done: int, scalars: Mapping[str, float]) -> None:
        for spike in self._spikes.note(scalars):
            self._num_spikes += 1
            if dist.get_rank() == 0:
                log.warning(
                    "step %d: %s is %.4g, %.0f deviations above its usual %.4g",
                    done, spike.name, spike.value, spike.deviations, spike.usual,
                )  # fmt: skip

    def _compare_ranks(self, done: int, step_s: float, device: torch.device) -> dict[str, float]:
        """Say which ranks the others wait for. Collective."""
        world = dist.get_world_size()
        if world == 1:
            return {}
        if not self._hosts:
            self._hosts = [""] * world
            dist.all_gather_object(self._hosts, socket.gethostname())
        mine = torch.zeros(world, device=device)
        mine[dist.get_rank()] = self.pace.seconds
        dist.all_reduce(mine)
        seconds = mine.tolist()
        found = find_stragglers(seconds, ratio=self._config.straggler_ratio, step_s=step_s)
        for slow in found if dist.get_rank() == 0 else ():
            log.warning(
                "step %d: rank %d on %s is a straggler: %.3g s to data and first forward pass, the "
                "others %.3g s", done, slow.rank, self._hosts[slow.rank], slow.seconds, slow.usual,
            )  # fmt: skip
        return {
            "ranks/stragglers": float(len(found)),
            "ranks/slowest": float(seconds.index(max(seconds))),
            "ranks/slowest_over_fastest": max(seconds) / max(min(seconds), 1e-9),
        }
