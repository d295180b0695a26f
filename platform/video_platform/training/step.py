"""What the training loop needs of one kind of training, and what it tells it."""

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from video_platform.batches.loader import MicroBatch
from video_platform.training.engine import Engine


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

    def name(self, index: int) -> str:
        """Return what the sample of an index is called, for people."""
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
    rewinds: int = 0
    """How often the run went back to a checkpoint."""
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Where the time of the whole run went, by phase."""
