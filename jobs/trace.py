"""A profile of some training steps, to be opened in a trace viewer such as Perfetto.

What one rank does on its processor and its GPU, from the first of the steps to the last, with the
wait for batches between them.
"""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from jobs.pretrain_config import TraceConfig
from video_platform.batches.loader import MicroBatch
from video_platform.tracking import Run
from video_platform.training.engine import Engine
from video_platform.training.loop import At, Step


class Traced:
    """A training step that is profiled for a while.

    Args:
        step: does the work.
        config: which steps are profiled; None leaves all alone.
        run: what the trace is logged to; None profiles nothing.
    """

    def __init__(self, step: Step, config: TraceConfig | None, run: Run | None) -> None:
        self._step, self._config, self._run = step, config, run
        self._profile: profile | None = None

    @property
    def engines(self) -> Mapping[str, Engine]:
        """Those of the step."""
        return self._step.engines

    def update(self, micro_batches: Sequence[MicroBatch[Any]], at: At) -> Mapping[str, Tensor]:
        """Update; begin to profile before the first step, and log the trace after the last."""
        if self._config is None or self._run is None:
            return self._step.update(micro_batches, at)
        if at.step + 1 == self._config.first_step:
            cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._profile = profile(activities=[ProfilerActivity.CPU, *cuda])
            self._profile.start()
        scalars = self._step.update(micro_batches, at)
        if self._profile is not None and at.step + 1 == self._config.last_step:
            self._profile.stop()
            self._log(self._profile, self._config, self._run)
            self._profile = None
        return scalars

    def state_dict(self) -> dict[str, Any]:
        """Return the step's."""
        return self._step.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give it to the step."""
        self._step.load_state_dict(state)

    def _log(self, taken: profile, config: TraceConfig, run: Run) -> None:
        name = f"steps-{config.first_step}-{config.last_step}.json"
        with TemporaryDirectory() as scratch:
            path = Path(scratch, name)
            taken.export_chrome_trace(str(path))
            packed = path.with_name(f"{name}.gz")
            packed.write_bytes(gzip.compress(path.read_bytes()))
            run.artifact(packed, "trace")
