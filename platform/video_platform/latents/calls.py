"""Calls of Ray actors that are under way, and what is done once each is answered."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

ASIDE = "aside"
"""The calls that an actor works on in a thread of their own, beside its others."""


@dataclasses.dataclass(eq=False)
class Worker:
    """One actor."""

    actor: Any
    """Its handle."""
    node: str = ""
    """The machine on which it runs; empty until it is ready."""
    calls: int = 0
    """Calls that it has not answered."""
    aside: int = 0
    """Those that it works on beside its others."""


class Calls:
    """The calls under way."""

    def __init__(self) -> None:
        self._under_way: dict[Any, tuple[Worker, Callable[[Any], None], bool]] = {}

    def put(
        self, worker: Worker, answer: Any, then: Callable[[Any], None], *, aside: bool = False
    ) -> None:
        """Note that a worker was called, and what to do once the answer is there.

        Args:
            worker: who was called.
            answer: the reference of the answer.
            then: is given that reference; `ray.get` of it raises what went wrong.
            aside: whether it is a call that is worked on beside the others.
        """
        _count(worker, 1, aside)
        self._under_way[answer] = worker, then, aside

    def wait(self, timeout_s: float) -> None:
        """Wait until some calls are answered, and do what is due after all of these."""
        import ray

        pending = list(self._under_way)
        answered, _ = ray.wait(pending, num_returns=1, timeout=timeout_s)
        if answered and len(pending) > 1:  # what else came in the meantime costs no more waiting
            answered, _ = ray.wait(pending, num_returns=len(pending), timeout=0)
        for answer in answered:
            worker, then, aside = self._under_way.pop(answer)
            _count(worker, -1, aside)
            then(answer)


def _count(worker: Worker, change: int, aside: bool) -> None:
    worker.aside += change * aside
    worker.calls += change * (not aside)


def drop(reference: Any) -> None:
    """Let go of what a failed call was to return; Ray would report it as never looked at."""
    import ray

    with contextlib.suppress(ray.exceptions.RayError):
        ray.get(reference, timeout=0)


def reason(error: BaseException) -> str:
    """Return what went wrong in one line, without Ray's frame around it."""
    return " ".join(str(getattr(error, "cause", error)).split())[:500]
