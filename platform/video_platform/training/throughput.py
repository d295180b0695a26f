"""Where the time of a run goes, from its first second to its last and over all restarts.

    ledger = Ledger(attempt)
    with ledger.phase("step", "step 7"): ...
    ledger.read(steps=10, samples=640)   # rates, and the share of each phase since the last reading
    ledger.goodput()                     # the share of each phase in all the time of the run

Every second since the driver began is in exactly one phase of `PHASES`, so that they add up to the
time that has passed. What was done after the checkpoint from which a run goes on is `lost`; from
the failure until workers run again it is `down`. A run that was stopped on purpose rests: that time
is not counted. The account travels in the checkpoints, so it is always that of the state that goes
on.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from video_platform.training.attempt import Attempt

PHASES = ("init", "restore", "data", "step", "hooks", "save", "other", "lost", "down")
"""What time may go into; `step` alone makes the model better."""
REDONE = ("data", "step")
"""What is lost where a run goes back to a checkpoint."""


class Ledger:
    """Seconds by phase, of the whole run and since the last reading.

    Args:
        attempt: the life of the run that this process is in.
        clock: seconds since 1970.
    """

    def __init__(self, attempt: Attempt, clock: Callable[[], float] = time.time) -> None:
        self._attempt, self._clock = attempt, clock
        first = attempt.last_seen_s is None
        self._entered_s = attempt.began_s if first else attempt.entered_s
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._since_s, self._doing = self._entered_s, "init"
        self._turn("other")
        if attempt.last_seen_s is not None:  # nothing was saved yet, as far as is known
            self._seconds["lost"] = max(0.0, attempt.last_seen_s - attempt.began_s)
            self._seconds["down"] = max(0.0, attempt.entered_s - attempt.last_seen_s)
        self._start_reading()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each phase up to now."""
        self._turn(self._doing)
        return dict(self._seconds)

    @contextmanager
    def phase(self, name: str, doing: str) -> Iterator[None]:
        """Count the time inside the block as `name`, and tell the watchdog what is done."""
        self._attempt.alive(f"{name} of {doing}")
        self._turn(name)
        try:
            yield
        finally:
            self._turn("other")

    def read(self, *, steps: int, samples: int) -> dict[str, float]:
        """Return rates and the share of each phase since the last reading, and start again.

        Args:
            steps: steps taken since then.
            samples: samples in these steps, over all ranks.
        """
        seconds = self.seconds
        elapsed_s = max(self._since_s - self._read_s, 1e-9)
        spent = {name: value - self._read[name] for name, value in seconds.items()}
        scalars = {f"time/{n}": s / elapsed_s for n, s in spent.items() if s > 0}
        scalars["steps_per_s"] = steps / elapsed_s
        scalars["samples_per_s"] = samples / elapsed_s
        self._start_reading()
        return scalars

    def goodput(self) -> dict[str, float]:
        """Return the share of each phase in the time of the run; that of `step` is the goodput."""
        seconds = self.seconds
        total_s = max(sum(seconds.values()), 1e-9)
        return {f"goodput/{name}": value / total_s for name, value in seconds.items()}

    def state_dict(self, *, resting: bool = False) -> dict[str, Any]:
        """Return the account up to now, as JSON.

        Args:
            resting: whether the run ends on purpose now, and rests until it is started again.
        """
        return {"seconds": self.seconds, "saved_s": self._clock(), "rests": resting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the account of a checkpoint in a new life of its run."""
        now = self.seconds
        saved_s, seen_s = float(state["saved_s"]), self._attempt.last_seen_s
        gap_s = 0.0 if state["rests"] else max(0.0, self._entered_s - saved_s)
        # A driver that died as well told nobody when: all of the gap counts as lost.
        lost_s = gap_s if seen_s is None else min(gap_s, max(0.0, seen_s - saved_s))
        now |= {"lost": lost_s, "down": gap_s - lost_s}
        before = state["seconds"]
        self._seconds = {name: now[name] + float(before.get(name, 0.0)) for name in PHASES}
        self._start_reading()

    def rewind(self, state: Mapping[str, Any]) -> None:
        """Count as lost what was done since a checkpoint to which this life goes back."""
        now = self.seconds
        for name in REDONE:
            since_s = max(0.0, now[name] - float(state["seconds"].get(name, 0.0)))
            self._seconds[name] -= since_s
            self._seconds["lost"] += since_s
        self._start_reading()

    def _start_reading(self) -> None:
        """Let the next reading tell of what comes from the last turn on, and of nothing before."""
        self._read, self._read_s = dict(self._seconds), self._since_s

    def _turn(self, doing: str) -> None:
        """Count the time since the last turn as what was done, and do something else."""
        now_s = self._clock()
        self._seconds[self._doing] += max(0.0, now_s - self._since_s)
        self._since_s, self._doing = now_s, doing


class Pace:
    """How long this rank needs by itself until its first forward pass is through.

    What comes later waits for the other ranks, and takes equally long on all of them.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def measured(self, module: nn.Module, device: torch.device) -> Iterator[None]:
        """Measure from here to the end of the first forward pass of `module` inside the block."""
        start_s = time.perf_counter()

        def reached(module: nn.Module, given: Any, returned: Tensor) -> None:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            self.seconds = time.perf_counter() - start_s
            handle.remove()

        handle = module.register_forward_hook(reached)
        try:
            yield
        finally:
            handle.remove()
